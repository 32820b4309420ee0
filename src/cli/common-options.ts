import { Option } from "commander";

/** Of listings and reports. */
export const jsonOption = () => new Option("--json", "print one JSON document per line instead of a table");

export const userOption = () => new Option("--user <id>", "only for this user (PROVIDER/SUBJECT)");

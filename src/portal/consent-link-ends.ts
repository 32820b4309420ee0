import { messagePage } from "../pages/error-page.ts";
import { type FailureCode, failureInWords } from "../upstream-oauth/failures.ts";

/** What the agent sees: the same as before, in either era of the protocol and through an aggregated route. */
const answeredWithLink =
  "The application is not notified: when it needs the server again, it is answered with a link again.";
const again = "Go back to your application, and let it ask again.";
/** What happened, and what to do; never who the link is for. */
export const rejections = {
  link_unknown: {
    happened: "This link has already been used, has expired, or is not from this gateway.",
    remedy: again,
  },
  other_person: {
    happened: "This link is for someone else: it was created for a call of another user.",
    remedy:
      "If somebody has sent it to you, close this page. If your own application opened it, sign in with the account that it uses.",
  },
  not_allowed: {
    happened: "The policy of this gateway does not give you access to this server.",
    remedy: "Ask your administrator for access.",
  },
  csrf: { happened: "The form was not submitted from this gateway's page.", remedy: again },
  signed_out: { happened: "You have been signed out in the meantime.", remedy: again },
  invalid_request: { happened: "The link does not name a server that you may use.", remedy: again },
  temporarily_unavailable: {
    happened: "The server's authorization server cannot be reached.",
    remedy: "Try again later, with the same link or a new one.",
  },
} as const;

/** What "Cancel" means for the application, and the way back. */
export function cancelledPage(given: {
  /** Name of the application, if it has one. */
  readonly client?: string;
  readonly server: string;
  /** The link only asked whether the application may use the server. */
  readonly connected: boolean;
  /** Where the link's page is. */
  readonly link: string;
}): string {
  const { client = "The application", server, connected, link } = given;
  const text = connected
    ? `${client} may not use ${server}. Your connection to ${server} is unchanged.`
    : `${server} was not connected, and ${client} cannot use it.`;
  return messagePage({
    title: "You cancelled",
    text: `${text} ${answeredWithLink}`,
    next: "If you change your mind, open the page again within ten minutes of the call, or let the application ask again.",
    action: { label: "Open the page again", href: link },
  });
}

/** The last page of a link whose button was pressed, without a connection. Fixed texts only: anyone can create a link to it. */
export function notConnectedPage(given: {
  readonly server: string;
  /** `connect_error` */
  readonly error?: string | string[];
  readonly reason?: FailureCode;
  readonly action: { readonly label: string; readonly href: string };
}): string {
  const { server, error = "server_error", reason, action } = given;
  // Policy has been checked before, and a denial of the upstream has a reason.
  const cancelled = error === "access_denied" && reason === undefined;
  return messagePage({
    title: cancelled ? "You cancelled" : "Not connected",
    text: `${server} was not connected${cancelled ? "." : `: ${failureInWords(error, reason)}`} ${answeredWithLink}`,
    next: "To connect it after all, let your application ask again, or use “Your connections”.",
    action,
  });
}

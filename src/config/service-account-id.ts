/** Stands before the slash in the user ids of machines (`service-account/NAME`), and is the client id of all of them. */
export const serviceAccountId = "service-account";

/** There is a service account of this name; its tokens work until it is revoked. */
export class ServiceAccountExists extends Error {
  readonly code = "service_account_exists";
  constructor(name: string) {
    super(`a service account "${name}" exists; revoke it first`);
  }
}

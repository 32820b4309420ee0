/** Channel of LISTEN and NOTIFY on which every replica hears of every change. */
export const changeChannel = "envoy_mcp_auth_change";

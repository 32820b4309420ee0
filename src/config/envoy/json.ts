/** Plain data as Envoy's configuration is written in; rendered as YAML or JSON by the caller. */
export type Json =
  | null
  | string
  | number
  | boolean
  | readonly Json[]
  | { readonly [key: string]: Json | undefined };

import Koa from "koa";

/** An app that receives requests as passed on by Envoy and the public endpoint. */
export function behindEnvoy(): Koa {
  const app = new Koa();
  app.proxy = true;
  app.silent = true;
  app.use(async (ctx, next) => {
    delete ctx.req.headers["x-forwarded-host"];
    ctx.req.headers["x-forwarded-proto"] = "https";
    await next();
  });
  return app;
}

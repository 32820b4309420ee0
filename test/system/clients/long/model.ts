import { text } from "node:stream/consumers";
import { type Listener, listen } from "../../../../dev/demo/listen.ts";

/** One call that the model makes. */
export interface ModelCall {
  /** End of the tool's name. */
  readonly tool: string;
  readonly arguments: Readonly<Record<string, unknown>>;
  /** Part of the expected result. */
  readonly answer: string;
}

/** A stand-in for a model's API: it calls tools one after the other, then repeats what it expected and has found in their results. */
export interface Model extends Pick<Listener, "url" | "close"> {
  /** The calls of the next conversation. */
  plan: readonly ModelCall[];
  /** Requested paths and offered tools, for debugging if no call was made. */
  readonly asked: string[];
}

interface Request {
  readonly stream?: boolean;
  readonly tools?: unknown;
}

/**
 * Speaks enough of the APIs of Anthropic (`/v1/messages`), OpenAI (`/v1/responses`, `/v1/chat/completions`) and
 * Gemini (`/v1beta/models/…`) for calls of tools.
 */
export async function model(): Promise<Model> {
  const asked: string[] = [];
  const listener = await listen((request, response) => {
    text(request)
      .then((body) => {
        const { pathname } = new URL(request.url ?? "/", "http://localhost");
        const message: Request = body ? JSON.parse(body) : {};
        const answer = answerTo(message, made.plan);
        asked.push(`${request.method} ${pathname} ${"call" in answer ? answer.call.name : "no call"}`);
        const events = eventsFor(pathname, answer);
        if (!events) return response.writeHead(404).end();
        if (message.stream === false || /count_tokens|:generateContent/.test(pathname))
          return response
            .writeHead(200, { "content-type": "application/json" })
            .end(JSON.stringify(events.whole));
        response.writeHead(200, { "content-type": "text/event-stream" });
        for (const event of events.stream) {
          if (typeof event === "object" && "type" in event) response.write(`event: ${event.type}\n`);
          response.write(`data: ${typeof event === "string" ? event : JSON.stringify(event)}\n\n`);
        }
        return response.end();
      })
      .catch((error: unknown) => response.writeHead(500).end(String(error)));
  });
  const made: Model = { url: listener.url, close: listener.close, asked, plan: [] };
  return made;
}

interface Tool {
  readonly name: string;
  readonly namespace?: string;
}

type Answer =
  | { readonly say: string }
  | {
      readonly call: Tool;
      readonly id: string;
      readonly input: Readonly<Record<string, unknown>>;
    };

/** The next call of the plan: as many calls have been made as the conversation has results. */
function answerTo(message: Request, plan: readonly ModelCall[]): Answer {
  const results = resultsIn(message);
  const next = plan[results.length];
  const call = next && toolIn(message.tools, next.tool);
  if (call) return { call, id: `call_${results.length + 1}`, input: next.arguments };
  const found = plan.map(({ answer }) => results.find((one) => one.includes(answer)) && answer);
  return { say: `It said: ${found.map((one) => one ?? "nothing").join(", ")}` };
}

/** Results of tools, as JSON; each API nests them differently. */
function resultsIn(value: unknown): readonly string[] {
  if (typeof value !== "object" || value === null) return [];
  const isResult =
    ("type" in value && (value.type === "tool_result" || value.type === "function_call_output")) ||
    ("role" in value && value.role === "tool") ||
    "functionResponse" in value;
  return isResult ? [JSON.stringify(value)] : Object.values(value).flatMap(resultsIn);
}

/** At any depth: each API nests it differently. */
function toolIn(value: unknown, end: string, namespace?: string): Tool | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  if ("name" in value && typeof value.name === "string" && value.name.endsWith(end))
    return { name: value.name, namespace };
  const within =
    "type" in value && value.type === "namespace" && "name" in value ? String(value.name) : namespace;
  for (const one of Object.values(value)) {
    const found = toolIn(one, end, within);
    if (found) return found;
  }
  return undefined;
}

function eventsFor(
  path: string,
  answer: Answer,
): { readonly stream: readonly (object | string)[]; readonly whole: object } | undefined {
  if (path.endsWith("/count_tokens")) return { stream: [], whole: { input_tokens: 1 } };
  if (path.endsWith("/messages")) return anthropic(answer);
  if (path.endsWith("/responses")) return responses(answer);
  if (path.endsWith("/chat/completions")) return completions(answer);
  if (/:(stream)?[gG]enerateContent$/.test(path)) return gemini(answer);
  return undefined;
}

function anthropic(answer: Answer) {
  const usage = { input_tokens: 1, output_tokens: 1 };
  const isCall = "call" in answer;
  const content = isCall
    ? { type: "tool_use", id: answer.id, name: answer.call.name, input: answer.input }
    : { type: "text", text: answer.say };
  const message = { id: "msg_1", type: "message", role: "assistant", model: "stand-in", usage };
  const reason = isCall ? "tool_use" : "end_turn";
  const delta = isCall
    ? { type: "input_json_delta", partial_json: JSON.stringify(answer.input) }
    : { type: "text_delta", text: answer.say };
  return {
    whole: { ...message, content: [content], stop_reason: reason, stop_sequence: null },
    stream: [
      { type: "message_start", message: { ...message, content: [], stop_reason: null, stop_sequence: null } },
      { type: "content_block_start", index: 0, content_block: isCall ? content : { type: "text", text: "" } },
      { type: "content_block_delta", index: 0, delta },
      { type: "content_block_stop", index: 0 },
      { type: "message_delta", delta: { stop_reason: reason, stop_sequence: null }, usage },
      { type: "message_stop" },
    ],
  };
}

function responses(answer: Answer) {
  const item =
    "call" in answer
      ? {
          type: "function_call",
          id: `fc_${answer.id}`,
          call_id: answer.id,
          ...answer.call,
          arguments: JSON.stringify(answer.input),
          status: "completed",
        }
      : {
          type: "message",
          id: "msg_1",
          role: "assistant",
          status: "completed",
          content: [{ type: "output_text", text: answer.say, annotations: [] }],
        };
  const usage = { input_tokens: 1, output_tokens: 1, total_tokens: 2 };
  const whole = {
    id: "resp_1",
    object: "response",
    status: "completed",
    model: "stand-in",
    output: [item],
    usage,
  };
  return {
    whole,
    stream: [
      { type: "response.created", response: { ...whole, status: "in_progress", output: [] } },
      { type: "response.output_item.added", output_index: 0, item },
      { type: "response.output_item.done", output_index: 0, item },
      { type: "response.completed", response: whole },
    ],
  };
}

function completions(answer: Answer) {
  const message =
    "call" in answer
      ? {
          role: "assistant",
          tool_calls: [
            {
              index: 0,
              id: answer.id,
              type: "function",
              function: { name: answer.call.name, arguments: JSON.stringify(answer.input) },
            },
          ],
        }
      : { role: "assistant", content: answer.say };
  const finish_reason = "call" in answer ? "tool_calls" : "stop";
  const base = { id: "chat_1", created: 1, model: "stand-in" };
  return {
    whole: { ...base, object: "chat.completion", choices: [{ index: 0, message, finish_reason }] },
    stream: [
      {
        ...base,
        object: "chat.completion.chunk",
        choices: [{ index: 0, delta: message, finish_reason: null }],
      },
      { ...base, object: "chat.completion.chunk", choices: [{ index: 0, delta: {}, finish_reason }] },
      "[DONE]",
    ],
  };
}

function gemini(answer: Answer) {
  const part =
    "call" in answer
      ? { functionCall: { name: answer.call.name, args: answer.input } }
      : { text: answer.say };
  const whole = {
    candidates: [{ index: 0, content: { role: "model", parts: [part] }, finishReason: "STOP" }],
    usageMetadata: { promptTokenCount: 1, candidatesTokenCount: 1, totalTokenCount: 2 },
    modelVersion: "stand-in",
  };
  return { whole, stream: [whole] };
}

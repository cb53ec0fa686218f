/** Lines of a channel, kept as they come: history, then live, over disconnects. */
import { useEffect, useRef, useState } from "preact/hooks";
import { live, type Message } from "./live";
import type { Shown } from "./parts/logview";

export interface Streamed {
  lines: Shown[];
  version: number;
  started: boolean;
  note: string;
}

const MOST = 1_000_000;

/** `hear`: also told of every message. An empty channel listens to nothing. */
export function useLines(channel: string, filter: Record<string, unknown>, hear?: (message: Message) => void): Streamed {
  const kept = useRef<{ key: string; lines: Shown[] }>({ key: "", lines: [] });
  const [state, set] = useState({ version: 0, started: false, note: "" });
  const key = channel + JSON.stringify(filter);
  const listener = useRef(hear);
  listener.current = hear;
  if (kept.current.key !== key) kept.current = { key, lines: [] };
  useEffect(() => {
    if (!channel) return;
    const { lines } = kept.current;
    lines.length = 0;
    set((old) => ({ version: old.version + 1, started: false, note: "" }));
    let frame = 0;
    let step = "";
    let told = 0;
    const tell = (text: string, level = ""): void => {
      lines.push({ id: `told-${++told}`, at: "", level, from: "", text, told: true });
    };
    const draw = (): void => {
      if (frame) return;
      // Many messages of a moment are one drawing.
      frame = requestAnimationFrame(() => {
        frame = 0;
        if (lines.length > MOST) lines.splice(0, lines.length - MOST);
        set((old) => ({ ...old, version: old.version + 1 }));
      });
    };
    const end = live.subscribe({ channel, history: 10_000, filter }, (message) => {
      listener.current?.(message);
      if (message.type === "server:log" || message.type === "build:log") {
        for (const item of message.items) {
          const container = item.container ?? item.stream ?? "";
          if (message.type === "build:log" && container !== step) {
            step = container;
            tell(`▾ ${step}`);
          }
          lines.push({
            id: `${message.writer}#${item.seq}`,
            at: item.timestamp,
            level: item.level,
            from: message.type === "build:log" ? "" : item.pod ?? "",
            text: item.line,
            traceId: item.traceId,
          });
        }
        draw();
      } else if (message.type === "dropped") {
        tell(`${message.count.toLocaleString("en")} lines are left out here: ${REASONS[message.reason] ?? message.reason}`, "lost");
        draw();
      } else if (message.type === "live") {
        set((old) => ({ ...old, version: old.version + 1, started: true }));
      } else if (message.type === "partial" || message.type === "error") {
        set((old) => ({ ...old, started: true, note: message.message }));
      }
    });
    return () => {
      end();
      cancelAnimationFrame(frame);
    };
  }, [key]);
  return { lines: kept.current.lines, ...state };
}

const REASONS: Record<string, string> = {
  "slow-client": "this page could not keep up",
  "not-stored": "they are not stored; the room Proof says more",
  "database-away": "ClickHouse did not answer",
};

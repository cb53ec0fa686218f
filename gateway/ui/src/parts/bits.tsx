/** Small pieces that every room uses. */
import type { ComponentChildren, JSX } from "preact";
import { useRef, useState } from "preact/hooks";
import type { Asked } from "../asking";
import { useReturned } from "../focus";
import { age, full } from "../format";
import { Worded } from "./worded";

const GOOD = new Set(["Succeeded", "Serving", "ok", "ended", "Healthy", "True", "replayed"]);
const BAD = new Set(["Failed", "error", "Stalled", "CrashLoop", "NeverReady", "missing"]);
const BUSY = new Set(["Building", "Starting", "Queued", "RollingOut", "running"]);

const WARN = new Set(["hung", "lost", "late"]);

/** A state in a word, with a shape and a colour: never by colour alone. */
export function Mark({ state, title }: { state: string; title?: string | undefined }): JSX.Element {
  const kind = WARN.has(state) ? "warn" : GOOD.has(state) ? "good" : BAD.has(state) ? "bad" : BUSY.has(state) ? "busy" : "";
  return (
    <span class={`mark ${kind}`} title={title}>
      {state}
    </span>
  );
}

export function Time({ at }: { at: string | null | undefined }): JSX.Element {
  if (!at) return <span class="soft">–</span>;
  return (
    <time dateTime={at} title={full(at)}>
      {age(at)}
    </time>
  );
}

/** Nothing is here yet: what to do next, ready to be copied. */
export function Empty({ children, command }: { children: ComponentChildren; command?: string }): JSX.Element {
  return (
    <div class="empty">
      <div>{children}</div>
      {command && <Copyable text={command} />}
    </div>
  );
}

/** A text to take along; `shown`: a button with this word, without the text. */
export function Copyable({ text, shown }: { text: string; shown?: string }): JSX.Element {
  const [done, set] = useState("");
  const copy = async (): Promise<void> => {
    try {
      await navigator.clipboard.writeText(text);
      set("Copied");
    } catch {
      set("Your browser forbids it"); // no permission, or not over https
    }
    setTimeout(() => set(""), 1500);
  };
  const button = <button onClick={() => void copy()}>{done || shown || "Copy"}</button>;
  if (shown) return button;
  return (
    <div>
      <pre>{text}</pre> {button}
    </div>
  );
}

/** What was asked for; or a skeleton, or what went wrong and a way to try again. */
export function Ready<T>({ of, children }: { of: Asked<T>; children: (data: T) => ComponentChildren }): JSX.Element {
  return (
    <>
      {of.error && (
        <div class="problem" role="alert">
          <h2>{of.data === undefined ? "This cannot be shown" : "This may be out of date"}</h2>
          <div>
            <Worded text={of.error.message} />
          </div>
          <button onClick={of.again}>Try again</button>
        </div>
      )}
      {of.data !== undefined ? children(of.data) : !of.error && <div class="skeleton" role="status" aria-label="loading" />}
    </>
  );
}

/** A row of a table that leads somewhere; the keyboard gets there by the link in its first cell. */
export function Row({ to, at, children }: { to: string; at?: boolean; children: ComponentChildren }): JSX.Element {
  const open = (event: MouseEvent & { currentTarget: HTMLTableRowElement }): void => {
    if ((event.target as Element).closest("a, button") || getSelection()?.toString()) return;
    event.currentTarget.querySelector("a")?.click();
  };
  const row = useRef<HTMLTableRowElement>(null);
  useReturned(to, row);
  return (
    <tr class={`link${at ? " at" : ""}`} onClick={open} data-to={to} ref={row}>
      {children}
    </tr>
  );
}

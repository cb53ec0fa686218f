/** Small pieces that every room uses. */
import type { ComponentChildren, JSX } from "preact";
import { useState } from "preact/hooks";
import type { Asked } from "../asking";
import { age, full } from "../format";

const GOOD = new Set(["Succeeded", "Serving", "ok", "ended", "Healthy", "True", "replayed"]);
const BAD = new Set(["Failed", "error", "Stalled", "CrashLoop", "NeverReady", "missing"]);
const BUSY = new Set(["Building", "Starting", "Queued", "RollingOut", "running"]);

/** A state in a word, with a shape and a colour: never by colour alone. */
export function Mark({ state, title }: { state: string; title?: string | undefined }): JSX.Element {
  const kind = GOOD.has(state) ? "good" : BAD.has(state) ? "bad" : BUSY.has(state) ? "busy" : "";
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

export function Copyable({ text }: { text: string }): JSX.Element {
  const [done, set] = useState(false);
  const copy = async (): Promise<void> => {
    await navigator.clipboard.writeText(text);
    set(true);
    setTimeout(() => set(false), 1500);
  };
  return (
    <div>
      <pre>{text}</pre> <button onClick={copy}>{done ? "Copied" : "Copy"}</button>
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
          <div>{of.error.message}</div>
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
  return (
    <tr class={`link${at ? " at" : ""}`} onClick={open} data-to={to}>
      {children}
    </tr>
  );
}

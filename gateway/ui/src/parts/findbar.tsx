/** Find in a trace: the words, how many spans have them, the next one and the one before. */
import type { JSX } from "preact";
import type { Found } from "../finding";

interface Props {
  wanted: string;
  find: (text: string) => void;
  found: Found;
  /** Which of them is chosen, from 1 on; 0: none. */
  nth: number;
  step: (by: number) => void;
}

export function FindBar({ wanted, find, found, nth, step }: Props): JSX.Element {
  const many = found.ids.size;
  const told = !wanted.trim() ? "" : found.error ? found.error.message : many ? `${nth ? `${nth} of ` : ""}${many.toLocaleString("en")}${found.more ? "+" : ""} ${many === 1 ? "span" : "spans"}` : found.waiting ? "…" : "no span has this";
  return (
    <div class="find-bar" role="search">
      <input
        type="search"
        aria-label="Find in this trace"
        placeholder="Find in this trace   ( / )"
        value={wanted}
        spellcheck={false}
        onInput={(e) => find(e.currentTarget.value)}
        onKeyDown={(e) => {
          if (e.key !== "Enter" || e.isComposing) return;
          e.preventDefault();
          step(e.shiftKey ? -1 : 1);
        }}
      />
      <button aria-label="previous hit" title="N" disabled={!many} onClick={() => step(-1)}>
        ↑
      </button>
      <button aria-label="next hit" title="n" disabled={!many} onClick={() => step(1)}>
        ↓
      </button>
      <span class={`small ${found.error ? "mark bad" : "soft"}`} role="status">
        {told}
      </span>
    </div>
  );
}

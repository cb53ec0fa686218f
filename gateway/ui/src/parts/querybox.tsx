/** Where a query is written: what may come next, what was asked before, and what is wrong, at its place. */
import type { JSX } from "preact";
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Refused } from "../api";
import { asked, offers, remember, type Offer } from "../query";
import "./reading.css";

interface Props {
  /** Which history of queries is its own. */
  signal: "logs" | "traces";
  query: string;
  fields: readonly (readonly [string, string])[];
  values: ReadonlyMap<string, readonly { value: string; count: number }[]>;
  problem: Refused | undefined;
  ask: (query: string) => void;
}

export function QueryBox({ signal, query, fields, values, problem, ask }: Props): JSX.Element {
  const [text, setText] = useState(query);
  const [open, setOpen] = useState(false);
  const [at, setAt] = useState(-1);
  const [left, setLeft] = useState(0);
  const input = useRef<HTMLInputElement>(null);
  const caret = useRef<number | null>(null);
  // At once: a letter that is typed right after Enter is not taken back.
  useLayoutEffect(() => setText(query), [query]);
  useLayoutEffect(() => {
    if (caret.current === null) return;
    input.current?.setSelectionRange(caret.current, caret.current);
    caret.current = null;
  });
  const place = input.current?.selectionStart ?? text.length;
  const before: Offer[] = text.trim() ? [] : asked(signal).slice(0, 8).map((one) => ({ text: one, about: "asked before", query: one, caret: one.length }));
  const shown = open ? [...before, ...offers(text, place, fields, values)] : [];
  const wrong = problem && text === query ? problem : undefined;
  const submit = (asking: string): void => {
    setOpen(false);
    setAt(-1);
    remember(signal, asking.trim());
    ask(asking.trim());
  };
  const take = (offer: Offer): void => {
    caret.current = offer.caret;
    setText(offer.query);
    setAt(-1);
    if (offer.about === "asked before") submit(offer.query);
    else input.current?.focus();
  };
  const keys = (event: KeyboardEvent): void => {
    if (event.isComposing) return;
    if (event.key === "ArrowDown" && !open) setOpen(true);
    else if (event.key === "ArrowDown" && shown.length) setAt((at + 1) % shown.length);
    else if (event.key === "ArrowUp" && shown.length) setAt((at <= 0 ? shown.length : at) - 1);
    else if (event.key === "Enter" && shown[at]) take(shown[at]!);
    else if (event.key === "Enter") submit(text);
    else if (event.key === "Escape" && shown.length) {
      setOpen(false);
      event.stopPropagation();
    } else return;
    event.preventDefault();
  };
  const name = signal === "logs" ? "Search log lines" : "Search traces";
  return (
    <div class="query">
      <div class="query-line">
        <div class="query-mirror" aria-hidden="true">
          <div style={{ transform: `translateX(${-left}px)` }}>{wrong?.at && <Underlined text={text} at={wrong.at} />}</div>
        </div>
        <input
          ref={input}
          type="text"
          role="combobox"
          aria-label={name}
          aria-expanded={shown.length > 0}
          aria-controls={`offers-${signal}`}
          aria-autocomplete="list"
          aria-activedescendant={shown[at] ? `offer-${at}` : undefined}
          aria-invalid={Boolean(wrong)}
          aria-describedby={wrong ? `wrong-${signal}` : undefined}
          placeholder={signal === "logs" ? 'Search: level:error,warn "time out" -health   ( / )' : "Search: status:error tool:web_search duration:>2s   ( / )"}
          autocomplete="off"
          spellcheck={false}
          value={text}
          onFocus={() => setOpen(true)}
          onBlur={() => setOpen(false)}
          onScroll={(e) => setLeft(e.currentTarget.scrollLeft)}
          onInput={(e) => {
            setText(e.currentTarget.value);
            setOpen(true);
            setAt(-1);
          }}
          onKeyDown={keys}
        />
        {text && (
          <button
            class="query-clear"
            aria-label="ask for all again"
            onClick={() => {
              setText("");
              submit("");
            }}
          >
            ✕
          </button>
        )}
        <div id={`offers-${signal}`} role="listbox" aria-label="suggestions" class="offers" hidden={shown.length === 0}>
          {shown.map((offer, i) => (
            <div
              key={offer.text}
              id={`offer-${i}`}
              role="option"
              aria-selected={i === at}
              class={i === at ? "at" : ""}
              onMouseDown={(e) => {
                e.preventDefault(); // the box keeps the focus
                take(offer);
              }}
            >
              <span class="mono">{offer.text}</span> <span class="soft small">{offer.about}</span>
            </div>
          ))}
        </div>
      </div>
      {wrong && (
        <p class="query-wrong" role="alert" id={`wrong-${signal}`}>
          {wrong.message.replace(/^q: /, "")}
        </p>
      )}
    </div>
  );
}

function Underlined({ text, at }: { text: string; at: { start: number; end: number } }): JSX.Element {
  const end = Math.max(at.end, at.start + 1);
  return (
    <>
      {text.slice(0, at.start)}
      <u>{text.slice(at.start, end) || " "}</u>
      {text.slice(end)}
    </>
  );
}

/** A text that is cut after some lines, and a button that shows it whole where it is. */
import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { visible } from "../format";
import "./cut.css";

/** `whole`: shown whole without being asked, as what is chosen is. */
export function Cut({ text, lines, whole = false }: { text: string; lines: number; whole?: boolean }): JSX.Element {
  const [open, setOpen] = useState(false);
  const [over, setOver] = useState(false);
  const box = useRef<HTMLSpanElement>(null);
  const all = open || whole;
  useEffect(() => {
    const element = box.current;
    if (!element || all) return;
    // Told at its begin, and when the width is another.
    const observer = new ResizeObserver(() => setOver(element.scrollHeight > element.clientHeight + 1));
    observer.observe(element);
    return () => observer.disconnect();
  }, [text, all]);
  return (
    <span class="cut">
      <span class={`cut-text${all ? " whole" : ""}`} style={{ WebkitLineClamp: lines }} ref={box}>
        {visible(text)}
      </span>
      {!whole && (over || open) && (
        <button aria-expanded={open} onClick={() => setOpen(!open)}>
          {open ? "Less" : "Show all"}
        </button>
      )}
    </span>
  );
}

/** The head of a group of lines: which it is, how it went, how much it printed; it folds. */
import type { JSX } from "preact";
import { visible } from "../format";
import { here, href } from "../place";
import type { Group } from "../rows";

/** What is known of a group beside its lines. */
export interface About {
  /** As of a `Mark`: good, bad, busy. */
  kind: string;
  word: string;
  /** How long it took, how it ended. */
  told: string;
}

interface Props {
  group: Group;
  about: About | undefined;
  folded: boolean;
  /** Among the rows; without: pinned above them. */
  top?: number;
  row?: number;
  at?: boolean;
  /** How far the list is moved to the left: a head stays where it is. */
  left: number;
  fold: (group: Group) => void;
}

/** What the address calls a head, beside the ids of lines. */
export const headId = (group: { key: string }): string => `step:${group.key}`;
export const ofHead = (id: string, groups: readonly Group[]): Group | undefined => (id.startsWith("step:") ? groups.find((group) => headId(group) === id) : undefined);

export function LogHead({ group, about, folded, top, row, at, left, fold }: Props): JSX.Element {
  const place = top === undefined ? { style: { marginLeft: `${left}px` } } : { style: { top: `${top}px`, left: `${left}px` }, "data-row": row };
  const lines = `${group.lines.toLocaleString("en")} ${group.lines === 1 ? "line" : "lines"}`;
  const link = href(here().path, { ...Object.fromEntries(new URLSearchParams(location.search)), line: headId(group) });
  return (
    <div class={`${top === undefined ? "log-pin" : "log-row"} log-head${at ? " at" : ""}`} {...place}>
      <button aria-expanded={!folded} onClick={() => fold(group)} title={folded ? "unfold (→)" : "fold (←)"}>
        <span class="fold-sign" aria-hidden="true">
          {folded ? "▸" : "▾"}
        </span>
        <span class={`mark ${about?.kind ?? ""}`}>{visible(group.name)}</span>
        <span class="soft">
          {about ? `${about.word}, ` : ""}
          {lines}
          {about?.told ? `, ${about.told}` : ""}
        </span>
      </button>
      <a href={link} aria-label={`link to ${visible(group.key)}`}>
        #
      </a>
    </div>
  );
}

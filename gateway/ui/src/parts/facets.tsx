/** Which values there are and how often: a click puts one into the query, or takes it out. */
import type { JSX } from "preact";
import { count, visible } from "../format";
import { has, toggled } from "../query";
import "./reading.css";

export interface Facet {
  field: string;
  values: { value: string; count: number }[];
  more: boolean;
}

export function Facets({ facets, query, ask }: { facets: Facet[]; query: string; ask: (query: string) => void }): JSX.Element {
  const shown = facets.filter((facet) => facet.values.some(({ value }) => value) || facet.values.some(({ value }) => has(query, facet.field, value)));
  return (
    <details class="facets" open={innerWidth > 720}>
      <summary>Narrow down</summary>
      {shown.map((facet) => (
        <fieldset key={facet.field}>
          <legend>{facet.field}</legend>
          {facet.values
            .filter(({ value }) => value)
            .map(({ value, count: times }) => {
              const on = has(query, facet.field, value);
              return (
                <button key={value} class={on ? "on" : ""} aria-pressed={on} title={value} onClick={() => ask(toggled(query, facet.field, value))}>
                  <span>{visible(value)}</span> <span class="soft">{count(times)}</span>
                </button>
              );
            })}
          {facet.more && <span class="soft small">and others</span>}
        </fieldset>
      ))}
      {shown.length === 0 && <p class="soft small">Nothing to choose from.</p>}
    </details>
  );
}

/** Values by field, for suggestions. */
export const valuesOf = (facets: Facet[] | undefined): ReadonlyMap<string, { value: string; count: number }[]> =>
  new Map((facets ?? []).map((facet) => [facet.field, facet.values.filter(({ value }) => value)]));

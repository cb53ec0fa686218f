/** Which requests were bad? A list, a scatter to brush, filters in the address. */
import type { JSX } from "preact";
import { useEffect, useMemo, useState } from "preact/hooks";
import type { Page, Trace } from "../api";
import { get, part } from "../api";
import { useAsked } from "../asking";
import { cost, count, full, ofNs } from "../format";
import { live } from "../live";
import { Empty, Mark, Ready, Row, Time } from "../parts/bits";
import { Scatter } from "../parts/plot";
import { choose, go, href, usePlace } from "../place";
import { between, when } from "../when";

export function Traces({ project }: { project: string }): JSX.Element {
  const { query } = usePlace();
  const status = query.get("status") ?? "";
  const slow = query.get("slow") ?? "";
  const name = query.get("name") ?? "";
  const time = when(query);
  const found = useAsked<Page<Trace>>(project ? `projects/${part(project)}/traces` : "", {
    limit: 200,
    from: time.from,
    to: time.to,
    status,
    minDuration: slow,
    name,
  });
  const [more, setMore] = useState<Trace[]>([]);
  const [cursor, setCursor] = useState<string | null>(null);
  useEffect(() => {
    setMore([]);
    setCursor(found.data?.nextCursor ?? null);
  }, [found.data]);
  const again = found.again;
  useEffect(() => {
    // Spans that end are a reason to ask again; at most every two seconds.
    if (!project || !time.live) return;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const end = live.subscribe({ channel: `project:${project}` }, (message) => {
      if (message.type === "span:ended" && !message.history) timer ??= setTimeout(() => ((timer = undefined), again()), 2_000);
    });
    return () => {
      end();
      clearTimeout(timer);
    };
  }, [project, time.live, again]);
  const load = async (): Promise<void> => {
    const page = await get<Page<Trace>>(`projects/${part(project)}/traces`, {
      limit: 200, from: time.from, to: time.to, status, minDuration: slow, name, cursor,
    });
    setMore([...more, ...page.items]);
    setCursor(page.nextCursor);
  };
  const traces = useMemo(() => [...(found.data?.items ?? []), ...more], [found.data, more]);
  if (!project) return <Empty>Choose a project above.</Empty>;
  return (
    <>
      <div class="head">
        <h1>Traces</h1>
        <select aria-label="status" value={status} onChange={(e) => choose({ status: e.currentTarget.value })}>
          <option value="">any status</option>
          <option value="error">error</option>
          <option value="ok">ok</option>
        </select>
        <select aria-label="duration" value={slow} onChange={(e) => choose({ slow: e.currentTarget.value })}>
          <option value="">any duration</option>
          <option value="100ms">100 ms and more</option>
          <option value="1s">1 s and more</option>
          <option value="10s">10 s and more</option>
        </select>
        <input aria-label="name" placeholder="name" value={name} onChange={(e) => choose({ name: e.currentTarget.value })} />
        {time.to && <button onClick={() => choose({ from: undefined, to: undefined })}>✕ chosen time</button>}
      </div>
      <Ready of={found}>
        {() =>
          traces.length === 0 ? (
            <Empty>No trace matches. Choose a longer time, or leave out a filter.</Empty>
          ) : (
            <>
              <Scatter
                traces={traces}
                brushed={(a, b) => choose(between(a, b), false)}
                open={(trace) => go(href(["traces", trace.projectId, trace.id]))}
              />
              <div class="table-wrap" tabIndex={0}>
                <table>
                  <thead>
                    <tr>
                      <th>Trace</th>
                      <th>Status</th>
                      <th class="num">Duration</th>
                      <th class="num hide-narrow">Spans</th>
                      <th class="num hide-narrow">Tokens</th>
                      <th class="num hide-narrow">Cost</th>
                      <th>Begun</th>
                    </tr>
                  </thead>
                  <tbody>
                    {traces.map((t) => {
                      const to = href(["traces", t.projectId, t.id]);
                      const state = t.durationNs === null ? "running" : t.status === "error" ? "error" : "ok";
                      return (
                        <Row key={t.id} to={to}>
                          <td>
                            <a href={to}>{t.name || "(no name)"}</a> <code class="soft">{t.id.slice(0, 8)}</code>
                          </td>
                          <td>
                            <Mark state={state} />
                            {t.errors > 0 && <span class="soft small"> {t.errors} failed inside</span>}
                          </td>
                          <td class="num">{ofNs(t.durationNs)}</td>
                          <td class="num hide-narrow">{count(t.spans)}</td>
                          <td class="num hide-narrow" title={`${t.inputTokens} in, ${t.outputTokens} out`}>
                            {count(t.inputTokens + t.outputTokens)}
                          </td>
                          <td class="num hide-narrow">{cost(t.cost)}</td>
                          <td class="nowrap" title={full(t.startTime)}>
                            <Time at={t.startTime} />
                          </td>
                        </Row>
                      );
                    })}
                  </tbody>
                </table>
              </div>
              {cursor && (
                <p>
                  <button onClick={load}>Older ones</button>
                </p>
              )}
            </>
          )
        }
      </Ready>
    </>
  );
}

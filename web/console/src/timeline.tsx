import { ago } from "../../app/src/lib/age.ts";
import { words } from "./history.ts";
import { now, timeline } from "./live.ts";

export const time = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });

/** The last thing that happened, for where the timeline is out of sight. */
export function Latest() {
  const last = timeline.value[0];
  return (
    <p class="latest">
      {last ? <>{words(last.what).title} <small>{[last.region, ago(last.at, now.value)].filter(Boolean).join(" · ")}</small></> : <small>Nothing happened since this page was opened.</small>}
    </p>
  );
}

/** What happened while the page was open, newest first. */
export function Timeline() {
  const entries = timeline.value;
  return (
    <aside class="card timeline" aria-label="What happened">
      <h2>What happened</h2>
      {entries.length === 0 && <p class="empty small">Nothing since this page was opened.</p>}
      <div class="log" role="log" tabIndex={entries.length > 0 ? 0 : -1} aria-label="Newest first">
        <ol data-testid="timeline">
          {entries.map((e) => {
            const { title, detail, tone } = words(e.what);
            return (
              <li key={e.id} data-tone={tone} data-kind={e.what.kind} data-region={e.region}>
                <time dateTime={new Date(e.at).toISOString()}>{time.format(e.at)}</time>
                <div>
                  <strong>{title}</strong>
                  {[e.region, ...detail].filter(Boolean).map((line) => <small key={line}>{line}</small>)}
                </div>
              </li>
            );
          })}
        </ol>
      </div>
    </aside>
  );
}

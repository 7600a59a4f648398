import { ago } from "../../app/src/lib/age.ts";
import { Toast } from "../../app/src/ui/toast.tsx";
import { heardAt, now, problem, type Region, regions, totals } from "./live.ts";
import { RegionCard } from "./region.tsx";
import { number, rate } from "./roster.ts";
import { Latest, Timeline } from "./timeline.tsx";

/** Is it healthy, who leads, where is the load, what just happened. */
export function Console() {
  const all = [...(regions.value?.values() ?? [])];
  const lost = problem.value !== "" && heardAt.value > 0;
  return (
    <div class="console" data-stale={lost}>
      <header class="top">
        <img src="/console/icon.svg" alt="" width="36" height="36" />
        <h1>Console</h1>
        <Summary all={all} />
        <Latest />
      </header>
      {lost && (
        <p class="banner" role="alert" data-testid="console-stale">
          <strong>No answer.</strong> What you see is from {ago(heardAt.value, now.value)} ({problem.value}).
        </p>
      )}
      {regions.value === undefined ? (
        <p class="empty" role="status">{problem.value === "" ? "Asking the server…" : `The server does not answer (${problem.value}). Trying again…`}</p>
      ) : (
        <div class="columns">
          <main class="regions">{all.map((r) => <RegionCard key={r.view.name} region={r} />)}</main>
          <Timeline />
        </div>
      )}
      <Toast />
    </div>
  );
}

function Summary({ all }: { all: readonly Region[] }) {
  if (all.length === 0) return null;
  const t = totals.value;
  const worst = all.find((r) => r.health.level === "bad") ?? all.find((r) => r.health.level === "warn");
  return (
    <>
      <p class="health" role="status" data-testid="health" data-level={worst?.health.level ?? "ok"}>
        <span class="dot" aria-hidden="true" />
        {worst ? `${worst.view.name}: ${worst.health.words}` : "All regions are healthy"}
      </p>
      <dl class="tiles">
        <div><dt>nodes up</dt><dd>{t.up}<small> of {t.nodes}</small></dd></div>
        <div><dt>sessions</dt><dd>{number(t.live)}</dd></div>
        <div class={t.suspended > 0 ? "warn" : ""}><dt>suspended</dt><dd>{number(t.suspended)}</dd></div>
        <div><dt>events/s</dt><dd>{rate(t.rates["events_per_s"] ?? 0)}</dd></div>
        <div><dt>fixes/s</dt><dd>{rate(t.rates["fixes_per_s"] ?? 0)}</dd></div>
      </dl>
    </>
  );
}

import { useMemo, useState } from "preact/hooks";
import { dark } from "../../app/src/settings.ts";
import { Button } from "../../app/src/ui/button.tsx";
import { colours } from "./colours.ts";
import { dev, look, type Region, regions } from "./live.ts";
import { command, type Command, count, type NodeView, number, ownersOf, rate, rateNames, type RegionView } from "./roster.ts";
import { Slots } from "./slots.tsx";
import { time } from "./timeline.tsx";

const rateWords: Record<string, string> = { opens_per_s: "opens", events_per_s: "events", fixes_per_s: "fixes", deliveries_per_s: "sent" };
const canvasInk = { light: { ink: "#14191d", empty: "#dde3e7" }, dark: { ink: "#ffffff", empty: "#2b343a" } };

/** A region: its health, its leader, who owns its slots, its nodes, its rates. */
export function RegionCard({ region }: { region: Region }) {
  const { view, health, answers } = region;
  const [only, setOnly] = useState("");
  const owners = useMemo(() => ownersOf(view), [view]);
  const ids = view.nodes.map((n) => n.id).sort();
  const palette = useMemo(() => colours(ids, dark.value), [ids.join(), dark.value]);
  return (
    <section class="card region" data-testid={`region-${view.name}`} data-leader={answers ? view.leader : ""} data-health={health.level} aria-label={view.name}>
      <header>
        <h2>{view.name}</h2>
        <p class="health" data-level={health.level}><span class="dot" aria-hidden="true" />{health.words}</p>
        {answers && view.leader !== "" && (
          <Button kind="quiet" class="transfer" title={`Another voter of ${view.name} leads`} data-testid={`transfer-${view.name}`} action={() => run("transfer", { region: view.name })}>
            Move leadership
          </Button>
        )}
      </header>
      <Slots owners={owners} colours={palette} only={only} moved={view.slots.moved_last_minute} {...canvasInk[dark.value ? "dark" : "light"]} />
      <ul class="nodes" aria-label={`Nodes of ${view.name}`}>
        {ids.map((id) => {
          const n = view.nodes.find((x) => x.id === id)!;
          return <NodeRow key={id} node={n} leads={answers && id === view.leader} colour={palette.get(id)!} runs={answers && n.self} point={setOnly} />;
        })}
      </ul>
      {answers && regions.value!.size > 1 && <Links view={view} others={regions.value!.size - 1} />}
      <dl class="sums">
        <div><dt>live</dt><dd data-testid={`live-${view.name}`}>{number(view.sessions.live)}</dd></div>
        <div class={view.sessions.suspended > 0 ? "warn" : ""}><dt>suspended</dt><dd>{number(view.sessions.suspended)}</dd></div>
        <div><dt>gone</dt><dd>{number(view.sessions.gone)}</dd></div>
      </dl>
      <dl class="rates">
        {rateNames.map((name) => (
          <div key={name}>
            <dt>{rateWords[name]}/s</dt>
            <dd>{rate(view.rates?.[name] ?? 0)}</dd>
            <Spark values={region.rates[name] ?? []} />
          </div>
        ))}
      </dl>
    </section>
  );
}

/** Which other regions it hears; in development it can be cut off from them. */
function Links({ view, others }: { view: RegionView; others: number }) {
  const { name, unreached, cut } = view;
  const isCut = cut.length === others;
  return (
    <div class="links" data-testid={`links-${name}`} data-unreached={unreached.map((u) => u.region).join(" ")}>
      <span class="grow">
        {unreached.length === 0 ? <small>hears all other regions</small> : unreached.map((u) => (
          <small key={u.region} class="unheard num">
            <strong>{u.region}</strong> {u.since === undefined ? "never heard" : `not heard since ${time.format(Date.parse(u.since))}`}
          </small>
        ))}
        {cut.length > 0 && <small>cut off from {cut.join(" and ")}</small>}
      </span>
      {dev.value && (
        <Button kind={isCut ? "quiet" : "plain"} class={isCut ? "" : "serious"} aria-label={`${isCut ? "Heal" : "Cut off"} ${name}`}
          title={isCut ? "" : `${name} neither hears the other regions nor is heard`} data-testid={`${isCut ? "heal" : "cut"}-${name}`}
          action={() => run(isCut ? "heal" : "cut", { region: name })}>
          {isCut ? "Heal" : "Cut off"}
        </Button>
      )}
    </div>
  );
}

function NodeRow({ node, leads, runs, colour, point }: { node: NodeView; leads: boolean; runs: boolean; colour: string; point: (id: string) => void }) {
  const { id, state, sessions } = node;
  const seen = state === "" ? "never seen" : state;
  const parts = [
    count(node.slots, "slot"),
    `${number(sessions.live)} live`,
    sessions.suspended > 0 && `${number(sessions.suspended)} suspended`,
    count(node.rooms_owned, "room"),
    !node.voter && state !== "" && "no vote",
  ].filter(Boolean);
  const up = state === "up";
  return (
    <li class="node" data-testid={`node-${id}`} data-state={seen} data-leads={leads}
      onPointerEnter={() => point(id)} onPointerLeave={() => point("")} onFocusCapture={() => point(id)} onBlurCapture={() => point("")}>
      <span class="swatch" style={{ background: colour }} aria-hidden="true" />
      <span class="grow">
        <span class="line">
          <strong>{id}</strong>
          {leads && <span class="tag accent">leads</span>}
          {!up && <span class={`tag ${state === "down" ? "bad" : "warn"}`}>{seen}</span>}
          {dev.value && !runs && up && <span class="tag bad">killed</span>}
        </span>
        <small class="num">{parts.join(" · ")}</small>
      </span>
      <span class="node-actions">
        {up && runs && <Action what="drain" node={id} sure={!dev.value}>Drain</Action>}
        {up && !runs && !dev.value && <Action what="drain" node={id} sure>Drain</Action>}
        {dev.value && runs && state !== "down" && <Action what="kill" node={id}>Kill</Action>}
        {dev.value && (!runs || !up) && <Action what="restart" node={id} runs={runs}>Restart</Action>}
      </span>
    </li>
  );
}

interface ActionProps {
  what: Command;
  node: string;
  sure?: boolean;
  /** It runs, and is ended before it is started again. */
  runs?: boolean;
  children: string;
}

/** A command to a node. Where it is not a game, the first tap only asks. */
function Action({ what, node, sure = false, runs = false, children }: ActionProps) {
  const [asked, setAsked] = useState(false);
  const act = async () => {
    if (sure && !asked) {
      setAsked(true);
      setTimeout(() => setAsked(false), 4000);
      return;
    }
    setAsked(false);
    if (what === "restart" && runs) await command("kill", { node });
    await run(what, { node });
  };
  return (
    <Button kind={asked || what === "kill" ? "plain" : "quiet"} class={asked || what === "kill" ? "serious" : ""} aria-label={`${children} ${node}`}
      data-testid={`${what}-${node}`} action={act}>
      {asked ? "Sure?" : children}
    </Button>
  );
}

async function run(what: Command, on: { node?: string; region?: string }): Promise<void> {
  await command(what, on);
  await look();
}

/** The last minute of a rate. */
function Spark({ values }: { values: readonly number[] }) {
  const top = Math.max(...values, 1);
  const points = values.map((v, i) => `${60 - values.length + i},${(15 - (14 * v) / top).toFixed(1)}`).join(" ");
  return (
    <svg class="spark" viewBox="0 0 59 16" preserveAspectRatio="none" aria-hidden="true" focusable="false">
      <polyline points={points} vector-effect="non-scaling-stroke" />
    </svg>
  );
}

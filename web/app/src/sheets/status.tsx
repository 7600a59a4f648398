import { ago, clock } from "../lib/age.ts";
import { link, now, type Transport, unreached, visibility } from "../state.ts";
import { Button } from "../ui/button.tsx";
import { reconnect, tryNow } from "../live.ts";

const BLIP = 700; // ms

export function transportName(t: Transport | undefined): string {
  return t === "webtransport" ? "WebTransport" : t === "websocket" ? "WebSocket" : "…";
}

/** How this page is connected: region, node, transport, round trip. */
export function StatusLine() {
  const l = link.value;
  const words = { idle: "Not connected", connecting: "Connecting…", live: "Live", reconnecting: "Reconnecting…", closed: "Disconnected" };
  return (
    <div class="status" data-phase={l.phase} aria-label="Connection">
      <span class="status-dot" aria-hidden="true" />
      <span class={l.phase === "live" ? "sr" : ""}>{words[l.phase]}</span>
      {l.phase === "live" && (
        <>
          <strong data-testid="status-region">{l.region}</strong>
          <span class="sep" data-testid="status-node" title="Node">{l.node}</span>
          <span class="sep" data-testid="status-transport">{transportName(l.transport)}</span>
          {visibility.value?.invisible && <span class="sep" data-testid="status-invisible">invisible</span>}
          <span class="sep num" data-testid="status-rtt" title="Round-trip time">{l.rtt === undefined ? "– ms" : `${l.rtt < 10 ? l.rtt.toFixed(1) : Math.round(l.rtt)} ms`}</span>
        </>
      )}
    </div>
  );
}

/** Over everything while the connection is lost, or a region can't be heard: what one sees is as old as that. */
export function Banner() {
  const l = link.value;
  // A blip is over before it could be read; the line above tells of it anyhow.
  if (l.phase === "reconnecting" && now.value - l.since >= BLIP) {
    const next = l.retryAt === undefined ? 0 : Math.ceil((l.retryAt - now.value) / 1000);
    return (
      <div class="banner" role="status" data-testid="banner-reconnecting">
        <span class="grow"><strong>Reconnecting…</strong> What you see is from {ago(l.since, now.value)}{next > 1 ? `; next try in ${next} s` : ""}.</span>
        {next > 1 && <Button kind="quiet" action={tryNow}>Try now</Button>}
      </div>
    );
  }
  if (l.phase === "closed") {
    return (
      <div class="banner bad" role="alert" data-testid="banner-closed">
        <span class="grow"><strong>Disconnected.</strong> {l.reason}</span>
        <Button kind="quiet" action={reconnect}>Connect again</Button>
      </div>
    );
  }
  return <OutOfReach />;
}

/** Quiet: everything else goes on. */
function OutOfReach() {
  const away = unreached.value;
  if (away.length === 0) return null;
  return (
    <div class="banner calm" role="status" data-testid="banner-unreached">
      {away.map((u) => (
        <span key={u.region}>
          <strong>{u.region}</strong> can't be reached since {clock(u.since, now.value)}. {u.lost ? "Its people are no longer shown." : "Its people are shown as they were."}
        </span>
      ))}
    </div>
  );
}

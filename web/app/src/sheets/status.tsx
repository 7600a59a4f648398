import { ago } from "../lib/age.ts";
import { link, now, type Transport } from "../state.ts";
import { Button } from "../ui/button.tsx";
import { reconnect } from "../live.ts";

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
          <span class="sep num" data-testid="status-rtt" title="Round-trip time">{l.rtt === undefined ? "– ms" : `${l.rtt < 10 ? l.rtt.toFixed(1) : Math.round(l.rtt)} ms`}</span>
        </>
      )}
    </div>
  );
}

/** Over everything while the connection is lost: what one sees is as old as that. */
export function Banner() {
  const l = link.value;
  if (l.phase === "reconnecting") {
    return (
      <div class="banner" role="status" data-testid="banner-reconnecting">
        <strong>Reconnecting…</strong> Last update {ago(l.since, now.value)}.
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
  return null;
}

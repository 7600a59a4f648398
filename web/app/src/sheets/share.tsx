import { useEffect } from "preact/hooks";
import type { Grant, ShareLink } from "@muster/sdk";
import { until } from "../lib/age.ts";
import { precisionWords } from "../lib/precision.ts";
import { loadSharing, revokeLink, setGhost, stopGrant } from "../granting.ts";
import { units } from "../settings.ts";
import { now, sharing } from "../state.ts";
import { Button, copy } from "../ui/button.tsx";
import { Icon } from "../ui/icons.tsx";
import { attempt } from "../ui/toast.tsx";
import { liveGrants, liveLinks, paused } from "../whereabouts.ts";
import { AsksOfMe } from "./asks.tsx";
import { Receipts } from "./receipts.tsx";
import { ShareForm } from "./share-form.tsx";
import { Zones } from "./zones.tsx";

/** Who may see where one is: with whom, how precisely, how long; and who did. */
export function ShareSheet() {
  useEffect(() => void attempt(loadSharing), []);
  const [grants, links] = [liveGrants.value, liveLinks.value];
  return (
    <>
      <Standing audiences={grants.length + links.length} />
      <AsksOfMe />
      {grants.length + links.length > 0 && (
        <ul class="items" aria-label="You share with">
          {grants.map((g) => <GrantRow key={g.grantId} grant={g} />)}
          {links.map((l) => <LinkRow key={l.linkId} link={l} />)}
        </ul>
      )}
      <ShareForm />
      <Zones />
      <Receipts />
    </>
  );
}

/** What holds now, in one line, and the switch that overrules all of it. */
function Standing({ audiences }: { audiences: number }) {
  const told = sharing.value.mode !== "off";
  const line = paused.value
    ? "Nobody sees where you are. What you share is kept for later."
    : audiences === 0
    ? "Nobody sees where you are."
    : told
    ? "This page tells where you are to those below."
    : "Those below see where you are once a device of yours tells it. This page doesn't.";
  return (
    <section class={`share standing${paused.value ? " ghost" : ""}`} aria-label="What others see">
      <p data-testid="share-standing">{line}</p>
      <div class="setting">
        <span id="set-ghost">Ghost mode<small>Pause everything at once</small></span>
        <Button kind="switch" role="switch" aria-checked={paused.value} aria-labelledby="set-ghost" data-testid="ghost-switch"
          action={() => setGhost(!paused.value)}>
          <span class="knob" />
        </Button>
      </div>
    </section>
  );
}

const ends = (expires: Date | undefined, t: number) => (expires ? `ends ${until(expires.getTime(), t)}` : "until you stop");

/** How an audience is called. */
export function audienceName({ kind, name }: Grant["audience"]): string {
  return kind === "discoverable" ? "People nearby" : name || (kind === "group" ? "A group" : "Somebody");
}

function GrantRow({ grant: g }: { grant: Grant }) {
  const name = audienceName(g.audience);
  return (
    <li data-testid="grant" data-kind={g.audience.kind} data-precision={g.precision}>
      <span class="row-icon"><Icon name={g.audience.kind === "discoverable" ? "radar" : g.audience.kind === "group" ? "people" : "person"} /></span>
      <span class="grow">
        <strong>{name}</strong>
        <small>{precisionWords(g.precision, units.value)} · {ends(g.expiresAt, now.value)}</small>
      </span>
      <Button kind="quiet" aria-label={`Stop sharing with ${name}`} data-testid="stop-grant" action={() => stopGrant(g.grantId)}>Stop</Button>
    </li>
  );
}

function LinkRow({ link: l }: { link: ShareLink }) {
  const url = `${location.origin}/l/${l.token}`;
  return (
    <li data-testid="share-link" data-url={url}>
      <span class="row-icon"><Icon name="link" /></span>
      <span class="grow">
        <strong>Whoever has the link</strong>
        <small>{precisionWords(l.precision, units.value)} · {ends(l.expiresAt, now.value)}</small>
      </span>
      <Button kind="icon" aria-label="Copy the link" data-testid="copy-share-link" action={() => copy(url, "Link")}><Icon name="copy" /></Button>
      <Button kind="quiet" aria-label="End the link" data-testid="revoke-link" action={() => revokeLink(l.linkId)}>Stop</Button>
    </li>
  );
}

import { useLocation } from "preact-iso";
import { useEffect, useRef, useState } from "preact/hooks";
import type { Audience } from "@muster/sdk";
import { loadBlocks, unblock } from "../granting.ts";
import { changeVisibility, openSecondPerson, pickedRegion, pickRegion, signOut } from "../live.ts";
import { RegisterForm } from "../pages/sign-in.tsx";
import { theme, units } from "../settings.ts";
import { account, link, regions, type Visibility, visibility } from "../state.ts";
import { Avatar } from "../ui/avatar.tsx";
import { Button } from "../ui/button.tsx";
import { Icon } from "../ui/icons.tsx";
import { Segments } from "../ui/segments.tsx";
import { attempt } from "../ui/toast.tsx";
import { loadTrack } from "../track.ts";
import { blocked } from "../whereabouts.ts";
import { TrackScreen, trackWords } from "./track.tsx";

/** Who one is, where one is connected, how the page looks. */
export function YouSheet() {
  const { route } = useLocation();
  const [keep, setKeep] = useState(false);
  const [screen, setScreen] = useState<"you" | "track">("you");
  const way = useRef<HTMLButtonElement>(null); // to the track, and where the focus is when one comes back
  const who = account.value;
  useEffect(() => void attempt(() => Promise.all([loadBlocks(), loadTrack()])), []);
  if (!who) return null;
  const back = () => {
    setScreen("you");
    requestAnimationFrame(() => way.current?.focus());
  };
  if (screen === "track") return <TrackScreen back={back} />;
  return (
    <>
      <div class="row still">
        <Avatar user={who.user} name={who.name} picture={who.picture} me />
        <span class="grow">
          <strong>{who.name}</strong>
          <small>{who.guest ? "Guest on this browser" : who.email}</small>
        </span>
        <Button kind="quiet" data-testid="sign-out" action={async () => { await signOut(); route("/"); }}>Sign out</Button>
      </div>
      {who.guest && !keep && <Button class="wide-button" action={() => setKeep(true)}>Keep this guest as an account</Button>}
      {who.guest && keep && <RegisterForm guest done={() => setKeep(false)} />}

      <a class="row way-on" href="/account" data-testid="open-account">
        <span class="row-icon"><Icon name="person" /></span>
        <span class="grow"><strong>Account</strong><small>Password, notifications, where you are signed in</small></span>
        <span class="flip"><Icon name="back" /></span>
      </a>
      <a class="row way-on" href="/people" data-testid="open-people">
        <span class="row-icon"><Icon name="people" /></span>
        <span class="grow"><strong>Friends</strong><small>Requests, and finding people</small></span>
        <span class="flip"><Icon name="back" /></span>
      </a>

      {visibility.value && <Presence {...visibility.value} />}

      <h2 class="section">Where you were</h2>
      <button ref={way} type="button" class="row way-on" data-testid="open-track" onClick={() => setScreen("track")}>
        <span class="row-icon"><Icon name="route" /></span>
        <span class="grow"><strong>Your track</strong><small>{trackWords()}</small></span>
        <span class="flip"><Icon name="back" /></span>
      </button>

      {blocked.value.length > 0 && <Blocked />}

      <h2 class="section">Region</h2>
      <RegionPicker />
      <SecondPerson />

      <h2 class="section">Display</h2>
      <Segments label="Theme" value={theme.value} options={[["auto", "Auto"], ["light", "Light"], ["dark", "Dark"]]} pick={(v) => (theme.value = v)} />
      <Segments label="Units" value={units.value} options={[["metric", "km"], ["imperial", "miles"]]} pick={(v) => (units.value = v)} />
    </>
  );
}

const audiences: Record<Audience, string> = { everyone: "Everyone", groups: "People in my groups", nobody: "Nobody" };

/** How others see one, or don't. */
function Presence({ invisible, lastSeenAudience }: Visibility) {
  return (
    <>
      <h2 class="section">Presence</h2>
      <div class="setting">
        <span id="set-invisible">Invisible<small>Others see you as offline; you see them as before.</small></span>
        <Button kind="switch" role="switch" aria-checked={invisible} aria-labelledby="set-invisible" data-testid="invisible-switch"
          action={() => changeVisibility({ invisible: !invisible })}>
          <span class="knob" />
        </Button>
      </div>
      <div class="field">
        <label for="last-seen">Who may know when you were here last</label>
        <select id="last-seen" data-testid="last-seen-audience" value={lastSeenAudience}
          onChange={(e) => void attempt(() => changeVisibility({ lastSeenAudience: e.currentTarget.value as Audience }))}>
          {Object.entries(audiences).map(([value, label]) => <option key={value} value={value}>{label}</option>)}
        </select>
      </div>
    </>
  );
}

/** Whom one blocked, and the way back. */
function Blocked() {
  return (
    <>
      <h2 class="section">Blocked</h2>
      <ul class="items" aria-label="Blocked">
        {blocked.value.map((b) => (
          <li key={b.userId} data-testid="blocked">
            <span class="grow"><strong>{b.username}</strong></span>
            <Button kind="quiet" action={() => unblock(b.userId)}>Unblock</Button>
          </li>
        ))}
      </ul>
    </>
  );
}

function RegionPicker() {
  const wanted = pickedRegion.value;
  const elsewhere = wanted !== undefined && link.value.phase === "live" && link.value.region !== wanted;
  return (
    <div class="field">
      <label for="region">Connect through</label>
      <select id="region" data-testid="region-picker" value={wanted ?? ""} onChange={(e) => pickRegion(e.currentTarget.value || undefined)}>
        <option value="">Nearest{wanted === undefined && link.value.region ? ` (${link.value.region})` : ""}</option>
        {regions.value.map((r) => <option key={r} value={r}>{r}</option>)}
      </select>
      <small>
        {elsewhere
          ? <span data-testid="region-elsewhere">{wanted} can't be reached from here; you are connected through {link.value.region}.</span>
          : "Everybody in the group sees each other whatever the region."}
      </small>
    </div>
  );
}

/** A second guest in another tab and region: how the mesh feels, without a second phone. */
function SecondPerson() {
  const others = regions.value.filter((r) => r !== link.value.region);
  const [region, setRegion] = useState("");
  const chosen = others.includes(region) ? region : others[0];
  if (chosen === undefined) return null;
  return (
    <div class="field">
      <label for="second-region">Open a second person in another region</label>
      <div class="inline">
        <select id="second-region" data-testid="second-region" value={chosen} onChange={(e) => setRegion(e.currentTarget.value)}>
          {others.map((r) => <option key={r} value={r}>{r}</option>)}
        </select>
        <Button data-testid="second-person" action={() => openSecondPerson(chosen)}><Icon name="open" /> Open</Button>
      </div>
      <small>A new tab, as another guest of this group.</small>
    </div>
  );
}

import { MusterError, type Whereabouts } from "@muster/sdk";
import { useRoute } from "preact-iso";
import { useEffect, useState } from "preact/hooks";
import { ago, until } from "../lib/age.ts";
import { precisionWords } from "../lib/precision.ts";
import { api } from "../live.ts";
import { MapView } from "../map/map.tsx";
import { units } from "../settings.ts";
import { now, type Person, roomPeople } from "../state.ts";
import { Frame, Logo } from "./frame.tsx";

const EVERY = 10_000; // ms
const SOMEBODY = "link"; // a link doesn't say whose it is
const nobody: ReadonlyMap<string, Person> = new Map();

interface Shown {
  at: Whereabouts | undefined;
  expires: number;
}

/** Behind a shared link: where its maker is, as the link may tell it, for people without an account. */
export function LinkPage() {
  const token = useRoute().params["token"] ?? "";
  const [shown, setShown] = useState<Shown | undefined>();
  const [ended, setEnded] = useState(false);
  const [problem, setProblem] = useState("");

  useEffect(() => {
    let gone = false;
    const look = async () => {
      try {
        const { location, expiresAt } = await api.location.openLink(token);
        if (gone) return;
        // Its age is by the server's clock; this browser's may be another one.
        const at = location && { ...location, captured: new Date(Date.now() - location.age * 1000) };
        setProblem("");
        setShown({ at, expires: expiresAt.getTime() });
        roomPeople.value = at ? new Map([[SOMEBODY, somebody(at)]]) : nobody;
      } catch (err) {
        if (gone) return;
        if (!(err instanceof MusterError && err.status === 404)) return setProblem(err instanceof Error ? err.message : String(err));
        setEnded(true);
        stop();
      }
    };
    const timer = setInterval(() => void look(), EVERY);
    const stop = () => {
      clearInterval(timer);
      roomPeople.value = nobody;
    };
    void look();
    document.title = "Shared position · Muster";
    return () => {
      gone = true;
      document.title = "Muster";
      stop();
    };
  }, [token]);

  if (ended || (shown && shown.expires <= now.value)) {
    return (
      <Frame>
        <Logo />
        <h1 data-testid="link-ended">This link shows nothing any more</h1>
        <p class="lead">It has ended, or there never was such a link.</p>
        <a class="button plain big" href="/">What is Muster?</a>
      </Frame>
    );
  }
  const at = shown?.at;
  return (
    <div class="stage link-page">
      <h1 class="sr">Shared position</h1>
      <main class="map-area" aria-label="Map">
        <MapView padding={() => ({ top: 110, right: 0, bottom: 20, left: 0 })} onPinMoved={() => {}} onSelect={() => {}} onTap={() => {}} strangers={() => nobody} />
      </main>
      <section class="bar" aria-label="Shared position">
        <div class="bar-title" role="status">
          <strong data-testid="link-age" data-lat={at?.point.lat} data-lng={at?.point.lng} data-cell={at?.cell}>
            {at ? `Here ${ago(at.captured.getTime(), now.value)}` : shown ? "The position is not known right now" : "Looking…"}
          </strong>
          <small>
            {at && `${precisionWords(at.precision, units.value)} · `}
            {shown && `link ends ${until(shown.expires, now.value)}`}
            {problem !== "" && ` · ${problem}; trying again`}
          </small>
        </div>
      </section>
    </div>
  );
}

function somebody(w: Whereabouts): Person {
  const fix = { at: w.point, accuracy: w.accuracy ?? 0, cell: w.cell, captured: w.captured.getTime(), device: "" };
  return { user: SOMEBODY, name: "Shared", state: "live", unknownSince: undefined, devices: [], fix };
}

import { useEffect, useState } from "preact/hooks";
import type { NotificationSettings as Settings } from "@muster/sdk";
import { kindsOf } from "../lib/kinds.ts";
import { api } from "../live.ts";
import { lookAtPush, push, turnPushOff, turnPushOn } from "../notices.ts";
import { Button } from "../ui/button.tsx";
import { attempt } from "../ui/toast.tsx";

const channels: Readonly<Record<string, string>> = { email: "Mail", push: "Push" };
const languages: Readonly<Record<string, string>> = { en: "English", de: "Deutsch", fr: "Français" };

/** By what the user is told of what, and when not. */
export function NotificationSettings() {
  const [settings, setSettings] = useState<Settings | undefined>();
  useEffect(() => void attempt(async () => {
    await lookAtPush();
    setSettings(await api.notifications.settings());
  }), []);
  const put = (change: Partial<Settings>) => void attempt(async () => setSettings(await api.notifications.changeSettings(change)));
  return (
    <section class="form" aria-label="Notifications">
      <h2 class="section">Notifications</h2>
      <PushSwitch />
      {settings && (
        <>
          <table class="choices">
            <thead>
              <tr><th scope="col">Tell me when</th>{Object.values(channels).map((name) => <th key={name} scope="col">{name}</th>)}</tr>
            </thead>
            <tbody>
              {kindsOf(Object.keys(settings.preferences)).map(([kind, words]) => (
                <tr key={kind}>
                  <th scope="row">{words}</th>
                  {Object.entries(channels).map(([channel, name]) => {
                    const on = settings.preferences[kind]?.[channel];
                    return (
                      <td key={channel}>
                        {on !== undefined && (
                          <label class="check">
                            <input type="checkbox" checked={on} aria-label={`${words}: ${name}`} data-testid={`wish-${kind}-${channel}`}
                              onChange={(e) => put({ preferences: { [kind]: { [channel]: e.currentTarget.checked } } })} />
                          </label>
                        )}
                      </td>
                    );
                  })}
                </tr>
              ))}
            </tbody>
          </table>
          <QuietHours settings={settings} put={put} />
          <div class="field">
            <label for="mail-language">Language of mails and pushes</label>
            <select id="mail-language" value={settings.language} onChange={(e) => put({ language: e.currentTarget.value })}>
              <option value="">As the server has it</option>
              {Object.entries(languages).map(([value, name]) => <option key={value} value={value}>{name}</option>)}
            </select>
          </div>
        </>
      )}
    </section>
  );
}

function PushSwitch() {
  const state = push.value;
  const hint = {
    no: "This browser has no pushes.", denied: "This browser does not allow it: change that in its settings for this page.",
    off: "Also while no page is open.", on: "Also while no page is open.",
  }[state];
  return (
    <div class="setting">
      <span id="set-push">Tell me on this device<small>{hint}</small></span>
      {(state === "on" || state === "off") && (
        <Button kind="switch" role="switch" aria-checked={state === "on"} aria-labelledby="set-push" data-testid="push-switch"
          action={() => (state === "on" ? turnPushOff() : turnPushOn())}>
          <span class="knob" />
        </Button>
      )}
    </div>
  );
}

/** Hours, in the zone of this browser, in which nothing but what concerns the account's safety comes. */
function QuietHours({ settings, put }: { settings: Settings; put: (s: Partial<Settings>) => void }) {
  const { from, until } = settings.quietHours;
  const timeZone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const on = from !== until;
  const set = (quietHours: Settings["quietHours"]) => put({ quietHours, timeZone });
  return (
    <>
      <div class="setting">
        <span id="set-quiet">Quiet hours<small>{on ? `Nothing disturbs you then, in the time of ${settings.timeZone || "UTC"}.` : "Such as at night."}</small></span>
        <Button kind="switch" role="switch" aria-checked={on} aria-labelledby="set-quiet" data-testid="quiet-switch"
          action={() => set(on ? { from: "00:00", until: "00:00" } : { from: "22:00", until: "07:00" })}>
          <span class="knob" />
        </Button>
      </div>
      {on && (
        <div class="inline">
          <div class="field"><label for="quiet-from">From</label><input id="quiet-from" type="time" value={from} onChange={(e) => set({ from: e.currentTarget.value, until })} /></div>
          <div class="field"><label for="quiet-until">Until</label><input id="quiet-until" type="time" value={until} onChange={(e) => set({ from, until: e.currentTarget.value })} /></div>
        </div>
      )}
    </>
  );
}

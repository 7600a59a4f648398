import { signal } from "@preact/signals";
import type { Notification } from "@muster/sdk";
import { heardCalls } from "./call/state.ts";
import { forgetConversations, heardConversation } from "./chat/conversations.ts";
import { contacts, loadContacts } from "./contacts.ts";
import { api } from "./live.ts";
import { heardPayment } from "./money/payments.ts";
import { forgetTalks, heardTalk } from "./talks.ts";

// What the user was told, and pushes to this browser while no page is open. A
// notice of the session only says that there is news: what it is is read.

export const notifications = signal<readonly Notification[] | undefined>(undefined);
export const unreadNotifications = signal(0);

export async function loadUnread(): Promise<void> {
  unreadNotifications.value = await api.notifications.unread();
}

/** Reads them, and marks what was read as read. */
export async function openNotifications(): Promise<void> {
  const all = await api.notifications.list();
  notifications.value = all;
  const [newest] = all;
  if (newest && all.some((n) => !n.readAt)) await api.notifications.readUntil(newest);
  unreadNotifications.value = 0;
}

/** A notice came, or some may have been missed. */
export function heard(kind: string): void {
  if (kind === "" || kind === "notification") void loadUnread().catch(() => {}); // the next one says it again
  if (kind === "" || kind.startsWith("friend.")) void loadContacts().catch(() => {});
  if (kind === "" || kind === "payment.updated") heardPayment();
  heardCalls(kind);
  heardTalk(kind);
  heardConversation(kind);
}

// ------------------------------------------------------------- pushes

/** Whether this browser is told when no page is open. */
export const push = signal<"no" | "off" | "on" | "denied">("off");

const KEPT = "muster.push"; // the id of this browser's subscription
const worker = () => navigator.serviceWorker.register("/sw.js");

/** How it stands, without asking the user anything. */
export async function lookAtPush(): Promise<void> {
  if (!("serviceWorker" in navigator) || !("PushManager" in window) || !("Notification" in window)) push.value = "no";
  else if (Notification.permission === "denied") push.value = "denied";
  else {
    const subscription = await (await worker()).pushManager.getSubscription();
    push.value = subscription && localStorage.getItem(KEPT) ? "on" : "off";
  }
}

export async function turnPushOn(): Promise<void> {
  if ((await Notification.requestPermission()) !== "granted") {
    await lookAtPush();
    return;
  }
  const registration = await worker();
  await navigator.serviceWorker.ready; // only an active worker can subscribe
  const subscription = await registration.pushManager.subscribe({
    userVisibleOnly: true, applicationServerKey: await api.notifications.pushKey(),
  });
  localStorage.setItem(KEPT, await api.notifications.subscribe(subscription.toJSON()));
  push.value = "on";
}

/** Another user of this browser is not told: the server ends pushes with the login. */
export function forgetPush(): void {
  localStorage.removeItem(KEPT);
  push.value = "off";
  notifications.value = undefined;
  unreadNotifications.value = 0;
  contacts.value = undefined;
  forgetTalks();
  forgetConversations();
}

export async function turnPushOff(): Promise<void> {
  const id = localStorage.getItem(KEPT);
  localStorage.removeItem(KEPT);
  push.value = "off";
  await (await (await worker()).pushManager.getSubscription())?.unsubscribe();
  if (id) await api.notifications.unsubscribe(id);
}

// The service worker: shows what the server pushes while no page is open, and
// opens the page that it is about. It keeps nothing and answers no requests.

self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

self.addEventListener("push", (event) => {
  let told = {};
  try {
    told = event.data?.json() ?? {};
  } catch {
    // Not ours to read: say at least that there is something.
  }
  const { title = "Muster", body = "There is news for you.", notification_id: id, url = "/" } = told;
  // Of one notification there is one, however often it is pushed.
  event.waitUntil(self.registration.showNotification(title, { body, tag: id, icon: "/icon.svg", data: { url } }));
});

self.addEventListener("notificationclick", (event) => {
  event.notification.close();
  // The server may know this app by another name: what counts is the page.
  const { pathname, hash } = new URL(event.notification.data?.url ?? "/", self.location.origin);
  const to = pathname === "/" && hash === "" ? "/notifications" : pathname + hash;
  event.waitUntil(
    self.clients.matchAll({ type: "window" }).then(async ([page]) => {
      if (!page) return self.clients.openWindow(to);
      await page.focus().catch(() => {}); // not every browser lets us
      return page.navigate(to);
    }),
  );
});

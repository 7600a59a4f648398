// Money as the API has it: whole minor units, and a code of ISO 4217. Nothing here
// computes with fractions: what people type is read digit by digit, and what they see
// is written the same way.

export interface Money {
  /** In minor units: 1240 of EUR are 12.40, 1240 of JPY are 1,240. */
  readonly amount: number;
  /** A code of ISO 4217, such as EUR. */
  readonly currency: string;
}

/** What one amount has at most, and a sum, in minor units; a number counts so far exactly. */
export const maxAmount = 1_000_000_000_000_000;

// Digits are ISO 4217's. Those of Intl are CLDR's, where some currencies without coins
// in use have none.
const byDigits: Readonly<Record<number, string>> = {
  0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
  2: "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE CHF CHW CNY COP COU CRC CUP CVE CZK " +
    "DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD " +
    "MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP " +
    "SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XCD YER ZAR ZMW ZWG",
  3: "BHD IQD JOD KWD LYD OMR TND",
  4: "CLF UYW",
};
const digits = new Map(Object.entries(byDigits).flatMap(([n, codes]) => codes.split(" ").map((c) => [c, Number(n)] as const)));

/** The codes that there are, by name. */
export const currencies: readonly string[] = [...digits.keys()].sort();

/** How many decimal places the minor unit is: 2 for EUR, 0 for JPY, 3 for KWD. */
export const currencyDigits = (currency: string): number => digits.get(currency) ?? 2;

/** The amount in major units, with a point: "12.40", "-0.005" of KWD, "1240" of JPY. */
export function decimal(m: Money): string {
  const places = currencyDigits(m.currency);
  const all = String(Math.abs(m.amount)).padStart(places + 1, "0");
  const sign = m.amount < 0 ? "-" : "";
  return places === 0 ? sign + all : `${sign}${all.slice(0, -places)}.${all.slice(-places)}`;
}

export interface FormatOptions {
  /** Default: the browser's. */
  readonly locale?: string | undefined;
  /** With a plus before what is above zero. */
  readonly sign?: boolean;
}

/** As people of a locale write it: "12,40 €". */
export function formatMoney(m: Money, o: FormatOptions = {}): string {
  const places = currencyDigits(m.currency);
  const format = new Intl.NumberFormat(o.locale, {
    style: "currency", currency: m.currency, minimumFractionDigits: places, maximumFractionDigits: places, ...(o.sign && { signDisplay: "exceptZero" }),
  });
  return format.format(decimal(m) as unknown as number); // text is formatted digit by digit; TypeScript's library doesn't know that yet
}

/** As people of a locale type it: "12,40". parseMoney() reads it. */
export function typedMoney(m: Money, locale?: string): string {
  return decimal(m).replace(".", separators(locale).point);
}

/** A decimal of the API as people of a locale type it: "33,34". parseDecimal() reads it. */
export const typedDecimal = (d: string, locale?: string): string => d.replace(".", separators(locale).point);

/**
 * What somebody typed as an amount, in minor units; undefined if it is none, or could be
 * two. "12,40", "12.4", "1.234,5" and "1 234.50" are read whatever the locale: the
 * separator that comes last and once, with as many digits behind it as the currency can
 * have, is the decimal one. Where three digits follow the only separator, the locale
 * decides: "1.234" is 1,234 euros to who writes so, and nothing to who would write 1.23.
 */
export function parseMoney(typed: string, currency: string, locale?: string): number | undefined {
  const bare = western(typed).replaceAll(/\p{Sc}/gu, "").replace(new RegExp(`^\\s*${currency}|${currency}\\s*$`, "i"), "");
  const parts = split(bare, currencyDigits(currency), locale);
  if (!parts) return undefined;
  const amount = Number(parts.whole + parts.fraction.padEnd(currencyDigits(currency), "0"));
  return amount <= maxAmount ? amount : undefined;
}

/**
 * What somebody typed as a decimal of at most so many places, as the API wants it:
 * "33,34" is "33.34". For percentages, weights and rates.
 */
export function parseDecimal(typed: string, places: number, locale?: string): string | undefined {
  const parts = split(western(typed), places, locale);
  if (!parts) return undefined;
  const whole = parts.whole.replace(/^0+(?=\d)/, "");
  const fraction = parts.fraction.replace(/0+$/, "");
  return fraction === "" ? whole : `${whole}.${fraction}`;
}

interface Parts {
  readonly whole: string;
  readonly fraction: string;
}

function split(typed: string, places: number, locale?: string): Parts | undefined {
  // Spaces and apostrophes only ever group.
  const grouped = /[\s'’]/u.test(typed.trim());
  const bare = typed.trim().replaceAll(/(?<=\d)[\s'’](?=\d{3})/gu, "");
  if (!/^\d*(?:[.,]\d+)*[.,]?$/.test(bare) || !/\d/.test(bare)) return undefined;
  const seps = bare.replaceAll(/\d/g, "");
  const last = seps.at(-1);
  if (last === undefined) return { whole: bare, fraction: "" };
  const at = bare.lastIndexOf(last);
  const behind = bare.slice(at + 1);
  const others = seps.slice(0, -1);
  let point = true;
  if (others.includes(last)) point = false; // "1.234.567"
  else if (others === "" && behind.length === 3 && !grouped) {
    const { point: mine, group } = separators(locale);
    if (last !== mine && last !== group && places >= 3) return undefined; // it could be either
    point = last === mine || at === 0;
  }
  const whole = point ? bare.slice(0, at) : bare;
  if (/[.,]/.test(whole)) {
    const group = whole.match(/[.,]/)![0];
    if ((point && group === last) || !new RegExp(`^\\d{1,3}(?:\\${group}\\d{3})+$`).test(whole)) return undefined;
  }
  const fraction = point ? behind : "";
  if (fraction.length > places) return undefined;
  return { whole: whole.replaceAll(/[.,]/g, "") || "0", fraction };
}

/** Arabic and Persian digits and separators as those of ASCII. */
const western = (s: string): string =>
  s.normalize("NFKC")
    .replaceAll(/[٠-٩]/g, (d) => String(d.charCodeAt(0) - 0x660))
    .replaceAll(/[۰-۹]/g, (d) => String(d.charCodeAt(0) - 0x6f0))
    .replaceAll("٫", ".")
    .replaceAll("٬", "'");

function separators(locale?: string): { point: string; group: string } {
  const parts = new Intl.NumberFormat(locale).formatToParts(-1_234_567.5);
  const of = (type: string) => western(parts.find((p) => p.type === type)?.value ?? "");
  return { point: of("decimal") || ".", group: of("group") };
}

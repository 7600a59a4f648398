import { expect, test } from "vitest";
import { currencies, currencyDigits, decimal, formatMoney, maxAmount, parseDecimal, parseMoney, typedDecimal, typedMoney } from "../src/money.js";
import { seeded } from "./random.js";

test.each([
  // typed, currency, locale, minor units
  ["12,40", "EUR", "de", 1240],
  ["12,40", "EUR", "en", 1240],
  ["12.4", "EUR", "de", 1240],
  ["12.", "EUR", "en", 1200],
  [",5", "EUR", "de", 50],
  ["0.07", "EUR", "en", 7],
  ["007", "EUR", "en", 700],
  ["1.234,5", "EUR", "en", 123450],
  ["1,234.50", "EUR", "de", 123450],
  ["1.234", "EUR", "de", 123400],
  ["1,234", "EUR", "en", 123400],
  ["1.234", "EUR", "en", undefined], // a slip
  ["1.234.567", "EUR", "en", 123456700],
  ["1.234.56", "EUR", "en", undefined],
  ["1,234,56", "EUR", "en", undefined],
  ["1.234,567", "EUR", "de", undefined],
  ["1 234,50", "EUR", "fr", 123450],
  ["1\u202f234,50", "EUR", "fr", 123450],
  ["1'234.50", "CHF", "de-CH", 123450],
  ["12,40 €", "EUR", "de", 1240],
  ["$12", "USD", "en", 1200],
  ["eur 3", "EUR", "en", 300],
  ["1,234", "JPY", "en", 1234],
  ["1.234", "JPY", "en", undefined],
  ["12,5", "JPY", "de", undefined],
  ["1200", "JPY", "ja", 1200],
  ["1.234", "KWD", "en", 1234],
  ["1,234", "KWD", "en", 1234000],
  ["1,234", "KWD", "de", 1234],
  ["1.234", "KWD", "fr", undefined], // a point is neither here
  ["1.2", "KWD", "en", 1200],
  ["1.2345", "CLF", "en", 12345],
  ["١٢٫٤٠", "EUR", "ar-EG", 1240],
  ["１２.４０", "JPY", "ja", undefined],
  ["１２０", "JPY", "ja", 120],
  ["", "EUR", "en", undefined],
  [".", "EUR", "en", undefined],
  ["-3", "EUR", "en", undefined],
  ["1e3", "EUR", "en", undefined],
  ["12 4", "EUR", "en", undefined],
  ["twelve", "EUR", "en", undefined],
  ["10000000000000.00", "EUR", "en", maxAmount],
  ["10000000000000.01", "EUR", "en", undefined],
])("%s %s in %s is %s", (typed, currency, locale, amount) => {
  expect(parseMoney(typed, currency, locale)).toBe(amount);
});

test("what is written is read as the same amount, in every currency and way of writing", () => {
  const random = seeded(7);
  for (const currency of currencies) {
    for (const locale of ["en", "de", "fr", "de-CH", "hi", "ar-EG", "fa"]) {
      const amount = random.below(10 ** (1 + random.below(15)));
      const m = { amount, currency };
      expect(parseMoney(typedMoney(m, locale), currency, locale), `${typedMoney(m, locale)} ${currency} ${locale}`).toBe(amount);
    }
  }
});

test("money is written with the digits of ISO 4217", () => {
  expect(formatMoney({ amount: 1240, currency: "EUR" }, { locale: "de" })).toBe("12,40\u00a0€");
  expect(formatMoney({ amount: 1240, currency: "JPY" }, { locale: "en" })).toBe("¥1,240");
  expect(formatMoney({ amount: 1240, currency: "KWD" }, { locale: "en" })).toBe("KWD\u00a01.240");
  expect(formatMoney({ amount: 1240, currency: "IQD" }, { locale: "en" })).toBe("IQD\u00a01.240"); // CLDR: none
  expect(formatMoney({ amount: 1240, currency: "LAK" }, { locale: "en" })).toContain("12.40");
  expect(formatMoney({ amount: -5, currency: "EUR" }, { locale: "en" })).toBe("-€0.05");
  expect(formatMoney({ amount: 5, currency: "EUR" }, { locale: "en", sign: true })).toBe("+€0.05");
  expect(formatMoney({ amount: 999_999_999_999_999, currency: "EUR" }, { locale: "en" })).toBe("€9,999,999,999,999.99");
  expect(decimal({ amount: -5, currency: "KWD" })).toBe("-0.005");
  expect([currencyDigits("CLF"), currencyDigits("UYW"), currencies.length]).toEqual([4, 4, 165]);
});

test("percentages, weights and rates are decimals as the API wants them", () => {
  expect(parseDecimal("33,34", 4, "de")).toBe("33.34");
  expect(parseDecimal("050.500", 4, "en")).toBe("50.5");
  expect(parseDecimal("1,0837", 4, "en")).toBe("1.0837");
  expect(parseDecimal("1.08375", 4, "en")).toBeUndefined();
  expect(parseDecimal("160", 4, "en")).toBe("160");
  expect(parseDecimal("x", 4, "en")).toBeUndefined();
  expect(parseDecimal(typedDecimal("33.333", "de"), 4, "de")).toBe("33.333");
});

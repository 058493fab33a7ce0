// Texts of the interface in the reader's language. The English text is the
// key, so that a screen reads as it looks; other languages are files beside
// the catalogue, loaded when somebody chooses them. `npm run texts` keeps them
// complete.

export type Language = 'en' | 'nl';
type Values = Record<string, string | number>;

/** languages by the name that their readers give them. */
export const languages: Record<Language, string> = { en: 'English', nl: 'Nederlands' };
const locales: Record<Language, string> = { en: 'en-GB', nl: 'nl-NL' };
const isLanguage = (s: string | null | undefined): s is Language => !!s && s in languages;

class Texts {
  language = $state<Language>('en');
  #translated = $state.raw<Record<string, string>>({});
  #figures = $derived(new Intl.NumberFormat(locales[this.language])); // kept: making one takes longer than writing a figure

  /** begin takes the language that was chosen here before, or the first of the browser's that there is. */
  async begin(): Promise<void> {
    let kept: string | null = null;
    try {
      kept = localStorage.getItem('nutshell.language');
    } catch {
      // storage is forbidden: the browser's language it is
    }
    const spoken = navigator.languages.map((l) => l.slice(0, 2)).find(isLanguage);
    await this.use(isLanguage(kept) ? kept : (spoken ?? 'en')).catch(() => {}); // English needs no file
  }

  /** choose changes the language and keeps it for the next visit. */
  async choose(language: Language): Promise<void> {
    await this.use(language);
    try {
      localStorage.setItem('nutshell.language', language);
    } catch {
      // the choice lasts as long as the page
    }
  }

  /** use changes the language. Until its file has come, texts stay as they are. */
  async use(language: Language): Promise<void> {
    this.#translated = language === 'nl' ? (await import('../texts/nl.json')).default : {};
    this.language = language;
    document.documentElement.lang = language;
  }

  /** locale is what dates and figures are written by. */
  get locale(): string {
    return locales[this.language];
  }

  /** figure writes a number as the reader's language does. */
  figure(n: number): string {
    return this.#figures.format(n);
  }

  of(text: string, values?: Values): string {
    const found = this.#translated[text] ?? text;
    return values ? found.replace(/\{(\w+)\}/g, (whole, name: string) => String(values[name] ?? whole)) : found;
  }
}

export const texts = new Texts();

/** t is a text in the reader's language: t('Delete {name}', { name }). The text is a literal, or one that was marked by text(), or comes from a kind. */
export const t = (text: string, values?: Values): string => texts.of(text, values);

/** tn chooses between one and many: tn('{n} instance', '{n} instances', count). */
export const tn = (one: string, many: string, n: number, values?: Values): string =>
  texts.of(n === 1 ? one : many, { ...values, n: texts.figure(n) });

/** text marks a text that a table keeps, and that t is given where it is shown. */
export const text = (text: string): string => text;

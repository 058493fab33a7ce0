// Texts of the interface in the reader's language. The English text is the
// key, so that a screen reads as it looks; other languages are files beside
// the catalogue, loaded when somebody chooses them.

export type Language = 'en' | 'nl';
type Values = Record<string, string | number>;

class Texts {
  language = $state<Language>('en');
  #translated = $state.raw<Record<string, string>>({});

  /** use changes the language. Until its file has come, texts stay as they are. */
  async use(language: Language): Promise<void> {
    this.#translated = language === 'nl' ? (await import('../texts/nl.json')).default : {};
    this.language = language;
    document.documentElement.lang = language;
  }

  of(text: string, values?: Values): string {
    const found = this.#translated[text] ?? text;
    return values ? found.replace(/\{(\w+)\}/g, (whole, name: string) => String(values[name] ?? whole)) : found;
  }
}

export const texts = new Texts();

/** t is a text in the reader's language: t('Delete {name}', { name }). The text must be a literal: the catalogue is made of what is written in calls. */
export const t = (text: string, values?: Values): string => texts.of(text, values);

/** tn chooses between one and many: tn('{n} instance', '{n} instances', count). */
export const tn = (one: string, many: string, n: number, values?: Values): string =>
  texts.of(n === 1 ? one : many, { ...values, n: n.toLocaleString(texts.language) });

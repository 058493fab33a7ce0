// What the plugin in manual.ts makes of docs/guide and docs/operate.
declare module 'virtual:manual' {
  export interface Section {
    id: string;
    title: string;
    level: number;
    html: string;
  }
  export interface Page {
    path: string;
    group: string;
    title: string;
    sections: Section[];
  }
  const pages: Page[];
  export default pages;
}

declare module 'virtual:manual-titles' {
  const titles: [path: string, title: string][];
  export default titles;
}

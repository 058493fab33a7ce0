// The document in which xterm makes its elements. The policy of these pages
// has no inline styles, and xterm puts rules into style elements and a style
// attribute on letters of unusual colours. So it gets this document, where a
// style element is a place-holder whose text becomes a constructed stylesheet,
// and where the attribute is set through the object model; both are allowed.
// Nothing else on the page sees it.

function sheetElement(): HTMLElement {
  const holder = document.createElement('template');
  const sheet = new CSSStyleSheet();
  document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet];
  Object.defineProperty(holder, 'textContent', { get: () => '', set: (text: string) => void sheet.replaceSync(text) });
  const remove = holder.remove.bind(holder);
  holder.remove = () => {
    remove();
    document.adoptedStyleSheets = document.adoptedStyleSheets.filter((s) => s !== sheet);
  };
  return holder;
}

function element(name: string): HTMLElement {
  if (name === 'style') return sheetElement();
  const e = document.createElement(name);
  const set = e.setAttribute.bind(e);
  e.setAttribute = (attribute: string, value: string) => {
    if (attribute === 'style') e.style.cssText = value;
    else set(attribute, value);
  };
  return e;
}

/** paper is the page's document but for the elements that it makes. */
export const paper: Document = new Proxy(document, {
  get(target, key) {
    if (key === 'createElement') return element;
    const value: unknown = Reflect.get(target, key, target);
    return typeof value === 'function' ? (value as (...a: unknown[]) => unknown).bind(target) : value;
  },
  set: (target, key, value) => Reflect.set(target, key, value, target),
});

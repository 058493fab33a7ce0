// Finds the texts of the interface and looks whether each can be translated.
//   node dev/texts.mjs             write src/texts/en.json, report what is missing
//   node dev/texts.mjs --check     write nothing, fail where something is missing
//   node dev/texts.mjs FILE…       report on these files only
import { readFile, readdir, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { parse } from 'svelte/compiler';
import ts from 'typescript';

const ui = fileURLToPath(new URL('..', import.meta.url));
const check = process.argv.includes('--check');
const only = process.argv.slice(2).filter((a) => !a.startsWith('--')).map((f) => f.replace(/^.*?src\//, 'src/'));

// Attributes, properties of components and fields of objects that people read.
const read = new Set(['title', 'label', 'placeholder', 'alt', 'aria-label', 'aria-description', 'aria-roledescription', 'aria-valuetext', 'text', 'hint', 'help', 'heading', 'message', 'caption', 'summary', 'what', 'verb', 'empty', 'note']);
// Elements whose texts are code, names and keys.
const verbatim = new Set(['code', 'kbd', 'samp', 'pre', 'style', 'script', 'svg']);
// Names are the same in every language.
const names = /\b(Nutshell|ConPaaS|PHP|Java|MySQL|MariaDB|CLI|API|URL|SQL|HTTPS?|DNS|SSH|CPU|JSON|YAML|curl|git|Linux|Debian|Ctrl|Shift|Alt|Esc|Tab|Chromium|Firefox)\b|&\w+;/g;
const letters = (s) => /\p{L}{2,}/u.test(s.replaceAll(names, ''));
// sentence tells what looks like written for people among all texts of a program.
const sentence = (s) => !s.includes('\n') && !s.startsWith('nutshell ') && (/^\p{Lu}\p{Ll}+[’',]? [\p{L}\d{]/u.test(s) || /^\p{L}+( [\p{L}\d{}’']+,?){2,}[.!?…]?$/u.test(s) || /^\p{Lu}\p{Ll}+[.!?…]$/u.test(s));

// Files whose texts are not all translated yet. While there are any, --check
// bears with them, and with texts that other languages lack.
const later = JSON.parse(await readFile(ui + 'dev/untranslated.json', 'utf8'));

const texts = new Map(); // text: where it is
const findings = [];

/** One finds the texts of one file in a tree of either parser, whose nodes are told apart by the functions of `tree`. */
class One {
  constructor(file, source) {
    this.file = file;
    this.source = source;
  }
  at(position) {
    return `${this.file}:${this.source.slice(0, position).split('\n').length}`;
  }
  keep(text, position) {
    if (!texts.has(text)) texts.set(text, this.at(position));
  }
  fault(text, position, why = 'is not translated') {
    findings.push(`${this.at(position)}: ${JSON.stringify(text.trim().replaceAll(/\s+/g, ' ').slice(0, 80))} ${why}`);
  }
}

// Svelte's tree: ESTree within a tree of elements.
function svelte(one) {
  const tree = parse(one.source, { modern: true });
  const value = (n) => (n.type === 'Literal' && typeof n.value === 'string' ? n.value : n.type === 'TemplateLiteral' ? n.quasis.map((q) => q.value.cooked).join('{}') : undefined);
  const walk = (n, context) => {
    if (Array.isArray(n)) return n.forEach((c) => walk(c, context));
    if (!n || typeof n.type !== 'string') return undefined;
    switch (n.type) {
      case 'Comment': case 'StyleSheet': case 'StyleDirective': case 'ClassDirective': case 'ImportDeclaration': case 'ExportNamedDeclaration': if (n.type !== 'ExportNamedDeclaration' || n.source) return undefined; break;
      case 'RegularElement': case 'SvelteElement':
        walk(n.attributes, { ...context, shown: false });
        return walk(n.fragment, verbatim.has(n.name) ? { ...context, verbatim: true } : context);
      case 'Component': case 'SvelteComponent':
        walk(n.attributes, { ...context, shown: false });
        return walk(n.fragment, context);
      case 'Text':
        if (context.template && !context.verbatim && context.attribute === undefined && letters(n.data)) one.fault(n.data, n.start);
        return undefined;
      case 'Attribute': {
        const people = read.has(n.name);
        if (n.value === true) return undefined;
        for (const part of [n.value].flat()) {
          if (part.type === 'Text') {
            if (people && letters(part.data) && !(n.name === 'placeholder' && /^[\p{Ll}\d.-]+( [A-Z]{4}|$)/u.test(part.data))) one.fault(part.data, part.start);
          } else walk(part.expression, { ...context, attribute: n.name, shown: people });
        }
        return undefined;
      }
      case 'ExpressionTag': return walk(n.expression, { ...context, shown: !context.verbatim });
      case 'IfBlock': walk(n.test, { ...context, shown: false }); walk(n.consequent, context); return walk(n.alternate, context);
      case 'EachBlock': walk(n.expression, { ...context, shown: false }); walk(n.body, context); return walk(n.fallback, context);
      case 'CallExpression': walk(n.callee, { ...context, shown: false }); return call(n.callee.name, n.arguments, n.start, context);
      case 'NewExpression': return walk(n.arguments, { ...context, shown: false, error: /Error$/.test(n.callee.name ?? '') });
      case 'Property': walk(n.key, { ...context, shown: false }); return walk(n.value, { ...context, shown: read.has(n.key.name ?? n.key.value) });
      case 'ConditionalExpression': walk(n.test, { ...context, shown: false }); walk(n.consequent, context); return walk(n.alternate, context);
      case 'LogicalExpression': walk(n.left, n.operator === '&&' ? { ...context, shown: false } : context); return walk(n.right, context);
      case 'BinaryExpression': { const inner = n.operator === '+' ? context : { ...context, shown: false, compared: true }; walk(n.left, inner); return walk(n.right, inner); }
      case 'MemberExpression': walk(n.object, { ...context, shown: false }); return n.computed ? walk(n.property, { ...context, shown: false }) : undefined;
      case 'TSTypeAnnotation': case 'TSTypeAliasDeclaration': case 'TSInterfaceDeclaration': case 'TSTypeParameterInstantiation': return undefined;
      case 'Literal': case 'TemplateLiteral': {
        const text = value(n);
        if (text !== undefined && !context.error && letters(text) && (context.shown ? n.type === 'Literal' || letters(n.quasis.map((q) => q.value.cooked).join(' ')) : !context.compared && !context.verbatim && sentence(text))) one.fault(text, n.start);
        if (n.type === 'TemplateLiteral') walk(n.expressions, { ...context, shown: false });
        return undefined;
      }
      case 'ArrowFunctionExpression': case 'FunctionExpression': if (n.body.type === 'BlockStatement') { walk(n.params, { ...context, shown: false }); return walk(n.body, { ...context, shown: false }); } break;
    }
    for (const [key, child] of Object.entries(n)) {
      if (key !== 'typeAnnotation' && key !== 'returnType' && child && typeof child === 'object') walk(child, context);
    }
    return undefined;
  };
  const literals = (n) => (n.type === 'ConditionalExpression' ? [...literals(n.consequent), ...literals(n.alternate)] : n.type === 'LogicalExpression' ? [...literals(n.left), ...literals(n.right)] : [n]);
  const call = (name, args, start, context) => {
    const inner = { ...context, shown: false };
    const said = name === 't' || name === 'text' ? 1 : name === 'tn' ? 2 : 0;
    if (name === 'count' && /import {[^}]*\bcount\b[^}]*} from '[^']*format'/.test(one.source)) one.fault('count', start, 'knows English only: use tn');
    args.slice(0, said).flatMap(literals).forEach((a) => {
      if (a.type === 'Literal') one.keep(a.value, a.start);
      else if (a.type === 'TemplateLiteral') one.fault(value(a), a.start, 'must be one literal with {names}');
      else walk(a, inner);
    });
    walk(args.slice(said), inner);
  };
  walk(tree.fragment, { template: true });
  if (tree.instance) walk(tree.instance.content, {});
  if (tree.module) walk(tree.module.content, {});
}

function typescript(one) {
  const tree = ts.createSourceFile(one.file, one.source, ts.ScriptTarget.Latest, true);
  const literal = (n) => (ts.isStringLiteral(n) || ts.isNoSubstitutionTemplateLiteral(n) ? n.text : ts.isTemplateExpression(n) ? n.head.text + n.templateSpans.map((s) => '{}' + s.literal.text).join('') : undefined);
  const literals = (n) => (ts.isConditionalExpression(n) ? [...literals(n.whenTrue), ...literals(n.whenFalse)] : [n]);
  let errors = 0; // what these say is for programmers, save where it goes through t()
  const walk = (n, shown = false) => {
    if (ts.isImportDeclaration(n) || ts.isTypeNode(n)) return;
    if (ts.isNewExpression(n) && /Error$/.test(n.expression.getText())) {
      errors++;
      n.arguments?.forEach((a) => walk(a));
      errors--;
      return;
    }
    if (ts.isCallExpression(n) && ['t', 'tn', 'text'].includes(n.expression.getText())) {
      const said = n.expression.getText() === 'tn' ? 2 : 1;
      n.arguments.slice(0, said).flatMap(literals).forEach((a) => {
        if (ts.isTemplateExpression(a)) one.fault(literal(a), a.getStart(), 'must be one literal with {names}');
        else if (literal(a) !== undefined) one.keep(literal(a), a.getStart());
        else walk(a);
      });
      n.arguments.slice(said).forEach((a) => walk(a));
      return;
    }
    if (ts.isPropertyAssignment(n)) return walk(n.initializer, read.has(n.name.text));
    if (ts.isCallExpression(n)) return ts.forEachChild(n, (c) => walk(c));
    if (ts.isBinaryExpression(n) && ['===', '!=='].includes(n.operatorToken.getText())) return;
    const text = literal(n);
    if (text !== undefined && !errors && letters(text) && (shown || sentence(text))) one.fault(text, n.getStart());
    ts.forEachChild(n, (c) => walk(c, shown && (ts.isConditionalExpression(n) || ts.isParenthesizedExpression(n) || ts.isArrowFunction(n))));
  };
  walk(tree);
}

const files = (await readdir(ui + 'src', { recursive: true })).map((f) => 'src/' + f).filter((f) => /\.(svelte|ts)$/.test(f) && !f.endsWith('lib/schema.ts') && !f.startsWith('src/gallery/')).sort();
for (const file of files) {
  const one = new One(file, await readFile(ui + file, 'utf8'));
  if (file.endsWith('.svelte')) svelte(one);
  else typescript(one);
}

// What the director sends and what is known of it beforehand: its kinds.
const json = async (name) => JSON.parse(await readFile(`${ui}src/texts/${name}.json`, 'utf8').catch(() => '{}'));
for (const text of Object.keys(await json('kinds'))) if (!texts.has(text)) texts.set(text, 'kinds.json');

const said = [...texts.keys()].sort((a, b) => a.localeCompare(b, 'en') || (a < b ? -1 : 1));
const catalogue = JSON.stringify(Object.fromEntries(said.map((s) => [s, s])), null, 1) + '\n';
const mine = (finding) => !only.length || only.some((f) => finding.startsWith(f + ':'));
const faults = findings.filter(mine);
if (!only.length) {
  const was = await readFile(ui + 'src/texts/en.json', 'utf8').catch(() => '');
  if (check && was !== catalogue) faults.push('src/texts/en.json is not what the files say: run `npm run texts`');
  if (!check) await writeFile(ui + 'src/texts/en.json', catalogue);
  const places = (s) => [...s.matchAll(/\{(\w+)\}/g)].map((m) => m[1]).sort().join();
  const dutch = await json('nl');
  for (const s of said) {
    if (!(s in dutch)) faults.push(`${texts.get(s)}: ${JSON.stringify(s)} is missing in src/texts/nl.json`);
    else if (places(dutch[s]) !== places(s)) faults.push(`src/texts/nl.json: ${JSON.stringify(dutch[s])} has {${places(dutch[s])}}, the English has {${places(s)}}`);
  }
  for (const s of Object.keys(dutch)) if (!texts.has(s)) faults.push(`src/texts/nl.json: ${JSON.stringify(s)} is said nowhere any more`);
}
const borne = (f) => check && later.length && (later.some((l) => f.startsWith(l + ':')) || / is missing in |^src\/texts\//.test(f));
const bad = faults.filter((f) => !borne(f));
bad.forEach((f) => console.log(f));
console.log(`${said.length} texts, ${bad.length} findings${check && later.length ? `, ${faults.length - bad.length} more are borne with until dev/untranslated.json is empty` : ''}`);
process.exitCode = bad.length ? 1 : 0;

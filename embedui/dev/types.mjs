// Makes src/lib/schema.ts of openapi.json, which the director's tests write.
//   node dev/types.mjs           write it
//   node dev/types.mjs --check   fail where it is not what openapi.json says
import { readFile, writeFile } from 'node:fs/promises';
import openapi, { astToString } from 'openapi-typescript';
import ts from 'typescript';

const file = new URL('../src/lib/schema.ts', import.meta.url);
const json = () => ts.factory.createTypeReferenceNode('Json');
const record = () => ts.factory.createTypeReferenceNode('Record', [ts.factory.createKeywordTypeNode(ts.SyntaxKind.StringKeyword), json()]);

// What may be any JSON is called Json: `unknown` would have to be cast wherever it is looked at.
function transform(schema) {
  if (schema.$ref || schema.properties || schema.oneOf) return undefined;
  if (schema.type === 'object' && schema.additionalProperties === true) return record();
  return Object.keys(schema).filter((k) => k !== 'description').length ? undefined : json();
}

const doc = JSON.parse(await readFile(new URL('../openapi.json', import.meta.url), 'utf8'));
const made = astToString(await openapi({ ...doc, paths: {} }, { transform, arrayLength: true, alphabetize: true }));
const text = `// Code generated from openapi.json by \`npm run types\`. DO NOT EDIT.
export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
${made}`;

if (!process.argv.includes('--check')) {
  await writeFile(file, text);
} else if ((await readFile(file, 'utf8').catch(() => '')) !== text) {
  console.error('src/lib/schema.ts is not what openapi.json says: run `npm run types` and commit both');
  process.exit(1);
}

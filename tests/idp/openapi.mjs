// Holds what the stand-in answers against what Okta publishes of its API (`okta-openapi.json`): a stand-in that answers
// otherwise would prove nothing. As much of JSON Schema as that document uses.

import { readFileSync } from 'node:fs';

const document = JSON.parse(readFileSync(new URL('okta-openapi.json', import.meta.url)));

const resolve = (node) => {
  while (node?.$ref) node = node.$ref.slice(2).split('/').reduce((at, step) => at[step], document);
  return node;
};

/** Why this is no answer of that operation; nothing where it is one. */
export function mistake(method, path, status, body) {
  const known = Object.keys(document.paths).find((template) =>
    new RegExp(`^${template.replaceAll(/\{[^}]+\}/g, '[^/]+')}$`).test(path),
  );
  const operation = document.paths[known]?.[method.toLowerCase()];
  if (!operation) return `Okta publishes no ${method} ${path}`;
  // What stands for all operations is not listed with each: a token that is not good, and Okta's own failures.
  const answer = resolve(operation.responses[status]) ?? ([401, 500, 503].includes(status) && resolve(operation.responses[403]));
  if (!answer) return `${method} ${known} does not answer with ${status}`;
  return invalid(answer.content['application/json'].schema, body, '$');
}

function invalid(schema, value, at) {
  schema = resolve(schema);
  if (value === null && schema.nullable) return undefined;
  for (const part of schema.allOf ?? []) {
    const wrong = invalid(part, value, at);
    if (wrong) return wrong;
  }
  if (schema.anyOf?.every((part) => invalid(part, value, at))) return `${at} is none of the forms it may have`;
  if (schema.enum && !schema.enum.includes(value)) return `${at} is ${JSON.stringify(value)}, none of ${schema.enum}`;
  if (schema.type && !is(schema.type, value)) return `${at} is no ${schema.type}`;
  if (Array.isArray(value) && schema.items) {
    return value.map((item, i) => invalid(schema.items, item, `${at}[${i}]`)).find(Boolean);
  }
  if (value === null || typeof value !== 'object') return undefined;
  const missing = (schema.required ?? []).find((name) => !(name in value));
  if (missing) return `${at} has no ${missing}`;
  return Object.entries(schema.properties ?? {})
    .filter(([name]) => name in value)
    .map(([name, part]) => invalid(part, value[name], `${at}.${name}`))
    .find(Boolean);
}

function is(type, value) {
  switch (type) {
    case 'array':
      return Array.isArray(value);
    case 'integer':
      return Number.isInteger(value);
    case 'object':
      return value !== null && typeof value === 'object' && !Array.isArray(value);
    default:
      return typeof value === type;
  }
}

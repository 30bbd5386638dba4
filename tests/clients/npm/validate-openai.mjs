// Validates what a server answered against OpenAI's published schemas: node validate-openai.mjs SCHEMA_FILE < lines
// A line is {"schema": name, "what": label, "instance": …}. Prints one line per invalid instance, then the count of all.
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import Ajv from 'ajv/dist/2019.js';
import addFormats from 'ajv-formats';

const schemas = JSON.parse(readFileSync(process.argv[2], 'utf8')).schemas;

// OpenAPI's dialect as JSON Schema: its references, its formats for integers, its way to allow null.
const local = JSON.parse(JSON.stringify(schemas).replaceAll('#/components/schemas/', '#/$defs/'), (key, value) => {
  if (key === 'format' && /^(int|float|double|unixtime|binary|byte)/.test(value)) return undefined;
  if (typeof value?.nullable !== 'boolean') return value;
  const { nullable, ...rest } = value;
  return nullable ? { anyOf: [rest, { type: 'null' }] } : rest;
});

// Two places where the schema is narrower than the API that it describes. Chunks of a stream have no reason yet, as in the
// streaming example of the same document; and the first token of an echoed prompt has no logprob.
const choice = local.CreateCompletionResponse.properties.choices.items.properties;
choice.finish_reason = { anyOf: [choice.finish_reason, { type: 'null' }] };
const logprobs = choice.logprobs.anyOf.find(o => o.type === 'object').properties;
for (const name of ['token_logprobs', 'top_logprobs']) logprobs[name].items = { anyOf: [logprobs[name].items, { type: 'null' }] };

const ajv = new Ajv({ strict: false, allErrors: false, logger: false });
addFormats(ajv);
ajv.addSchema({ $id: 'openai', $defs: local });

const validators = new Map();
function validator(name) {
  if (!validators.has(name)) {
    if (!local[name]) throw new Error(`There is no schema ${name}.`);
    validators.set(name, ajv.compile({ $ref: `openai#/$defs/${name}` }));
  }
  return validators.get(name);
}

let count = 0, invalid = 0;
for await (const line of createInterface({ input: process.stdin })) {
  if (!line) continue;
  const { schema, what, instance } = JSON.parse(line);
  count++;
  const validate = validator(schema);
  if (validate(instance)) continue;
  invalid++;
  const errors = validate.errors.slice(0, 6).map(e => `${e.instancePath} ${e.message} ${JSON.stringify(e.params)}`).join('; ');
  console.log(`INVALID ${schema} (${what}): ${errors}\n  ${JSON.stringify(instance).slice(0, 600)}`);
}
console.log(`${count} validated, ${invalid} invalid`);
process.exit(invalid > 0 ? 1 : 0);

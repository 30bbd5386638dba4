// Validates instances by their schemas with ajv: one {"schema": …, "instance": …} per line on stdin, the instance as JSON text.
// Prints a line for each one that is not valid, and at the end how many were looked at.
import { createInterface } from 'node:readline';
import Ajv2020 from 'ajv/dist/2020.js';
import addFormats from 'ajv-formats';

// Steps such as 0.01 have no exact double; 6 digits are compared.
const options = { strict: false, allErrors: false, multipleOfPrecision: 6, logger: false };
const validators = new Map();
let count = 0;

function validatorOf(schema) {
  const key = JSON.stringify(schema);
  if (!validators.has(key)) {
    const ajv = new Ajv2020(options);
    addFormats(ajv, { mode: 'full' });
    validators.set(key, ajv.compile(schema));
  }
  return validators.get(key);
}

for await (const line of createInterface({ input: process.stdin })) {
  if (!line) continue;
  count++;
  const { schema, instance } = JSON.parse(line);
  try {
    const validate = validatorOf(schema);
    if (!validate(JSON.parse(instance))) console.log(`${JSON.stringify(schema)} does not allow ${instance}: ${JSON.stringify(validate.errors)}`);
  } catch (error) {
    console.log(`${JSON.stringify(schema)} with ${instance}: ${error}`);
  }
}
console.log(`${count} validated`);

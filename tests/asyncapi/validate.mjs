// Reads a JSON list of AsyncAPI documents from stdin, and prints a list with the errors and warnings of each. Run where node_modules is.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const require = createRequire(join(process.cwd(), "package.json"));
const { Parser } = require("@asyncapi/parser");
const { AvroSchemaParser } = require("@asyncapi/avro-schema-parser");

const avro = AvroSchemaParser();
const parser = new Parser();
parser.registerSchemaParser(avro);
const SEVERITIES = ["error", "warning"]; // beside them there are hints, as that AsyncAPI has a newer version

async function faults(document) {
  const { diagnostics } = await parser.parse(JSON.stringify(document));
  const told = diagnostics.filter(({ severity }) => severity < SEVERITIES.length);
  for (const [name, { payload }] of Object.entries(document.components.messages)) {
    // The parser itself turns Avro schemas of AsyncAPI 3 into JSON schemas, and does not look whether they are any.
    const wrong = await avro.validate({ data: payload.schema, path: ["components", "messages", name, "payload", "schema"] });
    told.push(...wrong.map((fault) => ({ severity: 0, ...fault })));
  }
  return told.map(({ severity, path, message }) => `${SEVERITIES[severity]}: ${path.join("/")}: ${message}`);
}

const results = [];
for (const document of JSON.parse(readFileSync(0, "utf8"))) results.push(await faults(document));
console.log(JSON.stringify(results));

// An application as anybody writes it: OpenTelemetry's API, its SDK started without a setting;
// variables say where to.
import { metrics, trace } from "@opentelemetry/api";
import { logs, SeverityNumber } from "@opentelemetry/api-logs";
import { NodeSDK } from "@opentelemetry/sdk-node";

const sdk = new NodeSDK();
sdk.start();

const asked = metrics.getMeter("agent").createCounter("questions", { unit: "1" });
trace.getTracer("agent").startActiveSpan("question", (span) => {
  span.setAttribute("gen_ai.request.model", "m-1");
  asked.add(3, { kind: "order" });
  logs.getLogger("agent").emit({
    severityNumber: SeverityNumber.WARN,
    severityText: "WARN",
    body: "order 4711 is late",
  });
  span.end();
});

await sdk.shutdown();

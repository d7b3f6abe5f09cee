// How long a node still takes is no longer true once its run has ended early: the page's own text goes from the node.
import { api } from "../../../scripts/api.js";
import { close, nodeById } from "./dom.js";

const PAGES_TEXT = "$$node-text-preview";

// The server takes its text back too when it is stopped; pages from 1.41 on take no notice of an empty one.
for (const event of ["execution_interrupted", "execution_error"]) {
  api.addEventListener(event, ({ detail }) => {
    const node = nodeById(detail?.node_id);
    if (node?.comfyClass?.startsWith("T2SV")) close(node, PAGES_TEXT);
  });
}

"""What is computed from constants alone, as constants."""

from __future__ import annotations

from tvmconv.network.graph import Editor, Graph
from tvmconv.network.spellings.call import MOST_FOLDED, folded


def folded_constants(graph: Graph) -> Graph:
    """Nodes that read constants alone are replaced by their results, where these are not too large."""
    editor = Editor.of(graph)
    for node in graph.nodes:
        names = [editor.actual(name) for name in node.inputs]
        size = sum(one.size for one in node.op.infer())
        if any(name not in editor.constants for name in names) or size > MOST_FOLDED:
            continue
        known = [editor.constants[name] for name in names]
        for name, array in folded(node, known).items():
            editor.constants[name] = array
        editor.remove(node)
    return editor.graph()

"""The notebook's cells run one after the other, and say what the text says of them."""

import json
import unittest
from pathlib import Path

NOTEBOOK = Path(__file__).resolve().parents[1] / "notebook" / "trainer.ipynb"


class Notebook(unittest.TestCase):
    def test_every_cell_runs(self):
        names = {}
        for cell in json.loads(NOTEBOOK.read_text())["cells"]:
            if cell["cell_type"] == "code":
                exec(compile("".join(cell["source"]), cell["id"], "exec"), names)
        self.assertGreater(max(names["norms"]), 3 * min(names["norms"]))
        self.assertGreater(names["accuracy"][-1], 0.9)


if __name__ == "__main__":
    unittest.main()

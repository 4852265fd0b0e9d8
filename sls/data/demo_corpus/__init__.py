"""The demo corpus: made by code, on the spot, so that the whole experiment runs where no corpus is.

It has the layout and the file formats of ASVspoof 2019 LA, ASVspoof 2021 LA and DF, and In-the-Wild, so that the
built-in tracks read it as they read the real ones. **Figures on it say nothing about real deepfakes**: nobody speaks
here and no real synthesizer attacks.

`plan` says which trials there are, `tables` writes their lists, keys and ASV scores, and `recording` makes each of
them: a random text in a source-filter `voice`, for the spoofed ones made anew by one of the `attacks`, in a room and
through a microphone, and, where its key says so, through one of the real `codecs`. ASV scores are drawn from normal
distributions; no ASV system made them.
"""

from sls.data.demo_corpus.build import make_demo_corpus

__all__ = ["make_demo_corpus"]

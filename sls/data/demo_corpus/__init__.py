"""The demo corpus: made by code, on the spot, so that the whole experiment runs where no corpus is.

It has the layout and the file formats of ASVspoof 2019 LA (train and dev), ASVspoof 2021 LA and DF, and
In-the-Wild, so that the built-in tracks read it as they read the real ones. **Figures on it say nothing
about real deepfakes**: nobody speaks here and no real synthesizer attacks.

How a recording is made:

1. `articulation`: a text drawn at random, as syllables of vowels and consonants with a pitch contour.
2. `voice`: a source-filter voice says it: glottal pulses with jitter and shimmer, breath, moving formants.
3. Bona fide speech goes on as it is. Spoofed speech, another text of the same voices, is made anew from its
   short-time analysis: in train and dev by Griffin-Lim from a mel spectrogram (A01), an LPC vocoder (A02), a
   WORLD-like harmonic-plus-noise synthesizer (A03) or a sinusoidal one with stepped pitch (A04); on the
   evaluation tracks, unseen in training, by PSOLA (A05), a channel vocoder (A06), minimum-phase pulse
   responses of mel bands (A07) or WSOLA (A08). The attacks are given the pitch that the voice had. Their
   long-term level and coarse spectrum are set back to those of the speech that they started from.
4. `recording`: both classes alike get silences, a room, a microphone, noise, a band limit and a level, so that
   none of these tells them apart.
5. `codecs`: real telephone and file codecs, on the LA and DF tracks; mixed sampling rates In the Wild.

ASV scores are drawn from normal distributions; no ASV system made them.
"""

from sls.data.demo_corpus.build import DEMO_SEED, make_demo_corpus

__all__ = ["DEMO_SEED", "make_demo_corpus"]

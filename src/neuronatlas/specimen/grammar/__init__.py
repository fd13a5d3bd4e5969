"""A small generative grammar of English, German and Spanish that knows the gold labels of every word it writes.

The labels follow one scheme in all three languages; `_` means that a label does not apply.

- `upos`: Universal Dependencies' parts of speech.
- `chunk`: IOB2 over NP, VP, PP (the preposition alone), ADVP, ADJP, SBAR (the conjunction alone) and PRT; a verb group
  with what stands inside it is one VP, and each part of a split one is a chunk of its own.
- `role`: the UD relation to the head. Prepositions run together with an article (`im`, `del`) count as prepositions.
- `number`: of nouns, names, pronouns, finite verbs (their subject's), and of determiners and adjectives that show it.
- `tense`: of every verb in the group, auxiliaries included, by what the group says: a German perfect is past.
- `suffix`: the inflectional ending if the word shows one, else the derivational suffix of its base.
- `semantic`: the class of nouns, names, verbs, adjectives and adverbs.
"""

from neuronatlas.specimen.grammar.conllu import to_conllu
from neuronatlas.specimen.grammar.sentences import LANGUAGES, generate
from neuronatlas.specimen.grammar.words import LABEL_KEYS, LabelledSentence

__all__ = ["LABEL_KEYS", "LANGUAGES", "LabelledSentence", "generate", "to_conllu"]

"""Make a tokenizer and a tiny llama model of random weights, in a second, from nothing but wheels.

`python -m tests.llama.model OUT.gguf` writes one; the text it says is nonsense, but the server around it is real.
"""

import json
import sys
from pathlib import Path

import gguf
import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

END = "<|endoftext|>"
LAYERS, WIDTH, HEADS, FEED_FORWARD, CONTEXT = 2, 64, 4, 128, 16384
TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"
_SUBJECTS = ("the fox", "a proxy", "one key", "the model", "every token", "some stream", "her server", "our budget")
_VERBS = ("jumps over", "waits for", "counts", "forgets", "answers", "follows", "opens", "closes")
_OBJECTS = ("the lazy dog", "another request", "a long prompt", "its own tail", "the last event", "nothing at all")


def make_model(out: Path) -> None:
    """Write the model to `out` in llama.cpp's own format."""
    vocabulary, merges = _train_tokenizer()
    writer = gguf.GGUFWriter(str(out), "llama")
    _describe(writer, vocabulary, merges)
    _weigh(writer, vocabulary)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _train_tokenizer() -> tuple[dict[str, int], list[str]]:
    text = [f"{s} {v} {o}. " for s in _SUBJECTS for v in _VERBS for o in _OBJECTS]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=512, special_tokens=[END], initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(text, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]


def _describe(writer: gguf.GGUFWriter, vocabulary: dict[str, int], merges: list[str]) -> None:
    tokens = [token for token, _ in sorted(vocabulary.items(), key=lambda pair: pair[1])]
    writer.add_name("tiny-random-llama")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_vocab_size(len(tokens))
    writer.add_file_type(0)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    kinds = [gguf.TokenType.CONTROL if token == END else gguf.TokenType.NORMAL for token in tokens]
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(vocabulary[END])
    writer.add_eos_token_id(vocabulary[END])
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)


def _weigh(writer: gguf.GGUFWriter, vocabulary: dict[str, int]) -> None:
    rng = np.random.default_rng(0)

    def random(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) * 0.05).astype(np.float32)

    def ones() -> np.ndarray:
        return np.ones(WIDTH, np.float32)

    writer.add_tensor("token_embd.weight", random(len(vocabulary), WIDTH))
    writer.add_tensor("output_norm.weight", ones())
    output = random(len(vocabulary), WIDTH)
    # Never the likeliest: the end, and pieces that are not whole ASCII characters ("Ġ" stands for a space).
    # llama.cpp leaves out Anthropic's message_start when an answer begins with half a character.
    unsayable = [number for token, number in vocabulary.items() if not token.lstrip("Ġ").isalpha() or not _ascii(token)]
    output[unsayable] = 0
    writer.add_tensor("output.weight", output)
    for layer in range(LAYERS):
        for name in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{name}.weight", ones())
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            writer.add_tensor(f"blk.{layer}.{name}.weight", random(WIDTH, WIDTH))
        writer.add_tensor(f"blk.{layer}.ffn_gate.weight", random(FEED_FORWARD, WIDTH))
        writer.add_tensor(f"blk.{layer}.ffn_up.weight", random(FEED_FORWARD, WIDTH))
        writer.add_tensor(f"blk.{layer}.ffn_down.weight", random(WIDTH, FEED_FORWARD))


def _ascii(token: str) -> bool:
    return token.replace("Ġ", " ").isascii()


if __name__ == "__main__":
    make_model(Path(sys.argv[1]))

"""Inject names whose texts your own engine embedded: python precomputed_descriptors.py NAMES.txt FOLDER [--processes 4].

Here the engine is sentence-transformers' pool of processes, one a device; Ray or Spark would do as well. The embeddings go to a
file first, so that the machine that embeds need not be the one that injects.
"""

import argparse
from pathlib import Path

from sentence_transformers import SentenceTransformer

import timm_inject
from timm_inject.offline import load_model, packaged_encoder_directory
from timm_inject.text import names_to_mapping, read_name_file


def embed(model_id: str, texts: list[str], processes: int) -> object:
    model = SentenceTransformer(model_id)
    if processes == 1:
        return model.encode(texts)
    pool = model.start_multi_process_pool(target_devices=["cpu"] * processes)  # or ["cuda:0", "cuda:1", ...]
    try:
        return model.encode(texts, pool=pool)
    finally:
        model.stop_multi_process_pool(pool)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", type=Path, help="a file with one 'name' or 'name: description' a line")
    parser.add_argument("folder", type=Path, help="where the patched model and the embeddings are saved")
    parser.add_argument("--model", default="tf_efficientnet_lite0", help="what timm.create_model takes")
    parser.add_argument("--encoder", default=str(packaged_encoder_directory() or timm_inject.DEFAULT_ENCODER))
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()

    names = names_to_mapping(read_name_file(options.names))
    model = load_model(options.model)

    texts = timm_inject.texts_to_encode(model, names)  # of the seen classes and of the new ones
    encoder = timm_inject.PrecomputedEncoder(texts, embed(options.encoder, texts, options.processes), name=options.encoder)
    encoder.save(options.folder / "texts.safetensors")

    timm_inject.inject(model, names, encoder=options.folder / "texts.safetensors")
    timm_inject.save_for_hf(model, options.folder)
    print(f"{len(texts)} texts embedded; {model.num_classes} classes, of which {len(names)} are new")


if __name__ == "__main__":
    main()

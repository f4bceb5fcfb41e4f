"""Inject classes and push the model to the Hugging Face Hub, with its card: python push_to_hub.py user/name NAME [NAME ...].

Log in first with `hf auth login`, or set HF_TOKEN.
"""

import argparse

import timm

import timm_inject
from timm_inject.offline import load_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("repo_id", help="where to push, user/name")
    parser.add_argument("names", nargs="+", help="the new classes")
    parser.add_argument("--model", default="tf_efficientnet_lite0", help="what timm.create_model takes")
    parser.add_argument("--public", action="store_true", help="make a new repository public")
    options = parser.parse_args()

    model = load_model(options.model)
    timm_inject.inject(model, options.names)
    try:
        commit = timm_inject.push_to_hf_hub(model, options.repo_id, private=not options.public)
    except timm_inject.HubError as error:  # says what went wrong and what is left on the Hub
        raise SystemExit(f"{error}") from error
    print(f"pushed: {commit.commit_url}")

    # Anyone with timm loads it, timm_inject or not.
    loaded = timm.create_model(f"hf-hub:{options.repo_id}", pretrained=True)
    names = [entry.name for entry in timm_inject.injection_record(loaded).classes]
    print(f"loaded: {loaded.num_classes} classes, injected: {', '.join(names)}")


if __name__ == "__main__":
    main()

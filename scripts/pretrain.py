"""Pre-train a stack of restricted Boltzmann machines on unlabelled data."""

from dbn.command_line import run_script
from dbn.config import PretrainConfig, to_dict


def main(config: PretrainConfig) -> None:
    """Load the data, train layer by layer, say where the result is."""
    from functools import partial

    from dbn.datasets import load_splits
    from dbn.pretraining import pretrain_stack, summary, train_longer, unlabelled
    from dbn.ranks import check_alike, host_by_host, is_first, together
    from dbn.resuming import begin
    from dbn.training import pick_device

    device = pick_device(config.device)
    with together(device):
        with host_by_host():
            splits = load_splits(
                config.data.dataset, data_dir=config.data.data_dir, label_column=config.data.label_column
            )
        data = unlabelled(splits, config.training, device)
        check_alike([to_dict(config), splits.fingerprint])  # before anything is written
        if not is_first():
            pretrain_stack(data, config.training)
            return
        run = begin(
            config.run,
            to_dict(config),
            resume=config.resume,
            overwrite=config.overwrite,
            data=splits.fingerprint,
            harmless=partial(train_longer, config.training),
        )
        with run:
            print(splits.describe())
            pretrain_stack(data, config.training, run, progress=True)
        print(summary(run.metrics()))
        print(f"The stack is in {config.run}/dbn.safetensors, its weights for other code in encoder.safetensors.")


if __name__ == "__main__":
    run_script(main, PretrainConfig, __doc__, several=True)

"""Students most of whose weights are zero: of the same shape, trained under masks."""

from dataclasses import replace

from potstill.compress.sparse import Pattern, Sparsity, densified, sparsified
from potstill.pipeline.compression.options import Way
from potstill.pipeline.compression.squeezing import Job, Piece, made_of, trained
from potstill.teachers.fingerprints import module_digest


def zeroed_out(job: Job) -> Piece:
    """The run's student with zeros, and no masks: its file is as large, and smaller when zipped.

    Raises:
        ModelError: no layer can be made so.
    """
    start, options = job.start(), job.bench.options
    pattern = Pattern.TWO_OF_FOUR if job.way is Way.TWO_OF_FOUR else Pattern.UNSTRUCTURED
    how = Sparsity(share=options.sparsity, pattern=pattern, skip=options.skip)
    plain = made_of(start.module, None, name=str(job.way))
    made = replace(
        plain,
        make=lambda _seed: sparsified(start.module, how).train(),
        key=f"{how} {module_digest(start.module)}",
    )
    # The last epoch's weights: on the way there are fewer zeros, and better answers.
    done = trained(
        job,
        Piece(module=start.module, config=start.config),
        made,
        job.epochs,
        "zeros",
        to_the_end=True,
    )
    return replace(done, module=densified(done.module), config=start.config)

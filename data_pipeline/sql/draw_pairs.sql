-- candidates -> pairs: at most `max_pairs` of a question (null: all), drawn by keyed hash: the same
-- on every machine, and a larger limit only adds pairs. The keys of the two answers are mixed from
-- the build's seed; the low half of their product is as random, and costs an eighth of an MD5.
CREATE OR REPLACE TEMP TABLE pairs AS
WITH numbered AS (
    SELECT question, chosen, rejected, margin, row_number() OVER (
        PARTITION BY question
        ORDER BY
            (chosen_key::UHUGEINT * (rejected_key | 1)::UHUGEINT)
                & 18446744073709551615::UHUGEINT,
            chosen, rejected
    ) AS draw
    FROM candidates
)
SELECT question, chosen, rejected, margin, draw
FROM numbered
WHERE draw <= coalesce(getvariable('max_pairs'), 9223372036854775807);

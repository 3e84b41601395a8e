-- candidates -> pairs: at most `max_pairs` of a question (null: all), drawn by keyed hash: the same
-- on every machine, and a larger limit only adds pairs. order_key carries the build's seed.
CREATE OR REPLACE TEMP TABLE pairs AS
WITH numbered AS (
    SELECT question, chosen, rejected, margin, row_number() OVER (
        PARTITION BY question
        ORDER BY md5_number_lower(order_key::VARCHAR || '/' || chosen_id || '/' || rejected_id),
            chosen, rejected
    ) AS draw
    FROM candidates
)
SELECT question, chosen, rejected, margin, draw
FROM numbered
WHERE draw <= coalesce(getvariable('max_pairs'), 9223372036854775807);

-- answers -> candidates: the best answer of a question (by keyed random choice among equals) against
-- every other one.
CREATE OR REPLACE TEMP VIEW candidates AS
WITH ranked AS (
    SELECT *, row_number() OVER (
        PARTITION BY question
        ORDER BY score DESC, md5_number_lower(order_key::VARCHAR || '/' || post_id), post_id
    ) AS place
    FROM answers
)
SELECT
    better.question, better.order_key, better.position AS chosen, worse.position AS rejected,
    better.score - worse.score AS margin, better.post_id AS chosen_id, worse.post_id AS rejected_id
FROM ranked AS better
JOIN ranked AS worse ON worse.question = better.question
WHERE better.place = 1 AND better.score - worse.score >= getvariable('min_margin');

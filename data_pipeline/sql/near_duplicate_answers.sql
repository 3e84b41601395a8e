-- documents (number, cluster, site, question_id, response_id, score, question_document), removed
-- -> the answers of which a similar one answers the same cluster of questions better: all but the
-- one with the highest score, then the first in the global order. A question that is similar to no
-- other is a cluster of its own; what an earlier step removed is not the one that stays.
WITH alive AS (
    SELECT answers.*, coalesce(questions.cluster, answers.question_document) AS question_cluster
    FROM documents AS answers
    LEFT JOIN documents AS questions ON questions.number = answers.question_document
    WHERE answers.response_id IS NOT NULL
        AND NOT EXISTS (
            SELECT 1
            FROM removed
            WHERE removed.site = answers.site
                AND removed.question_id = answers.question_id
                AND (removed.response_id IS NULL OR removed.response_id = answers.response_id)
        )
), copies AS (
    SELECT *, row_number() OVER (
        PARTITION BY cluster, question_cluster ORDER BY score DESC, number
    ) AS copy
    FROM alive
)
SELECT site, question_id, response_id, 'near_duplicate_answer' AS reason
FROM copies
WHERE copy > 1
ORDER BY number;

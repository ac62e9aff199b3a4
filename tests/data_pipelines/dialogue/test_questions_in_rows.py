"""What a bridge is asked about the clips and the images of a row."""

import numpy as np

from ivjax.data_pipelines.dialogue.items import DialogueTokens
from ivjax.data_pipelines.dialogue.seeing import Seeing
from ivjax.data_pipelines.fields.conversation_field import Conversation
from ivjax.data_pipelines.fields.conversation_row import write_row
from ivjax.data_pipelines.sampling import PerSecond


def test_questions_about_images_stand_behind_those_about_all_clips():
    def conversation(clips, images, word):
        words = DialogueTokens(np.ones(2, np.int32), np.ones(2, bool), np.full(2, -1, np.int32))
        asked = np.full(3, word, np.int32), np.ones(3, bool)
        return Conversation(
            words, np.zeros((clips, 1, 2, 2, 3), np.uint8), np.zeros((images, 2, 2, 3), np.uint8), asked
        )

    row = {
        "ids": np.zeros(8, np.int32),
        "video": np.zeros((3, 1, 2, 2, 3), np.uint8),
        "images": np.zeros((2, 2, 2, 3), np.uint8),
        "question": np.zeros((5, 3), np.int32),
        "question_mask": np.zeros((5, 3), bool),
    }
    write_row(row, [conversation(1, 1, 7), conversation(1, 1, 9)], Seeing(PerSecond(1, 1.0), 1, 1))
    np.testing.assert_array_equal(row["question"][:, 0], [7, 9, 0, 7, 9])
    np.testing.assert_array_equal(row["question_mask"][:, 0], [True, True, False, True, True])
